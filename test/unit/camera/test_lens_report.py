# SPDX-License-Identifier: Apache-2.0
"""Report of a lens over a range of distances."""

import json
import math

import pytest

from dualfocus_ros.camera.depth_resolution import depth_error, range_limit
from dualfocus_ros.camera.lens_report import analyze_lens
from dualfocus_ros.camera.thin_lens import Lens

LENS = Lens(0.016, 1.4, 1.125e-5)


def test_report_of_a_lens():
    report = analyze_lens(LENS, 0.5, 2.0, width=640, blur_error=0.25)
    assert report.kappa == LENS.kappa()
    assert [z for z, _ in report.errors] == [0.5, 0.7, 1.0, 1.5, 2.0]
    assert all(error == depth_error(z, report.kappa, 0.25) for z, error in report.errors)
    assert report.limit == range_limit(report.kappa, blur_error=0.25)
    assert (report.planes[0], report.planes[-1]) == pytest.approx((0.5, 2.0))
    assert report.breathing == pytest.approx(LENS.magnification(2.0, 0.5) - 1.0)
    assert report.breathing_edge_px == pytest.approx(320 * report.breathing)


def test_kappa_alone_has_no_breathing():
    report = analyze_lens(30.0, 0.2, math.inf)
    assert report.lens is None and report.breathing is None and report.breathing_edge_px is None
    assert report.planes[0] == 0.0
    assert all(math.isfinite(error) for _, error in report.errors)


def test_infinity_is_null_in_json():
    document = json.loads(json.dumps(analyze_lens(30.0, 0.2, math.inf).as_dict()))
    assert document['range_m'] == [0.2, None]


@pytest.mark.parametrize(('near', 'far'), [(2.0, 1.0), (0.0, 1.0), (0.005, 1.0)])
def test_rejects_ranges_that_the_lens_cannot_focus(near, far):
    with pytest.raises(ValueError):
        analyze_lens(LENS, near, far)
