# SPDX-License-Identifier: Apache-2.0
"""Depth resolution and lens report against the table of cameras in the documentation."""

import json
import math

import numpy as np
import pytest

from dualfocus_ros.camera.depth_resolution import (
    MAX_RELATIVE_ERROR,
    analyze_lens,
    check_range,
    depth_error,
    hyperfocal_distance,
    inverse_depth_error,
    range_limit,
    sweep_planes,
)
from dualfocus_ros.camera.lens_presets import PRESETS
from dualfocus_ros.camera.thin_lens import Lens

# Preset; kappa; error in metres at 0.5, 1, 2 and 3 m for a blur error of 0.25 px; planes from 0.5
# to 5 m for at most 2 px of blur. Values as printed.
TABLE = [
    ('nyu', '26.0', '0.002 0.010 0.038 0.086', 13),
    ('arkit', '3.0', '0.021 0.082 0.33 0.74', 3),
    ('fod500', '0.69', '0.09 0.36 1.4 3.2', 2),
    ('phone', '2.7', '0.023 0.092 0.37 0.83', 3),
    ('oak', '1.3', '0.048 0.19 0.76 1.7', 2),
    ('liquid16', '13.9', '0.005 0.018 0.072 0.16', 8),
    ('machine25', '33.8', '0.002 0.007 0.030 0.067', 17),
]


def printed(value, like):
    """Format a value with the number of decimals of a printed one."""
    return f'{value:.{len(like.split(".")[1])}f}'


@pytest.mark.parametrize(('name', 'kappa', 'errors', 'planes'), TABLE)
def test_errors_agree_with_the_table_of_cameras(name, kappa, errors, planes):
    found = PRESETS[name].lens.kappa()
    assert printed(found, kappa) == kappa
    for distance, error in zip((0.5, 1.0, 2.0, 3.0), errors.split(), strict=True):
        assert printed(depth_error(distance, found, 0.25), error) == error
    assert len(sweep_planes(0.5, 5.0, found, 2.0)) == planes


def test_every_preset_is_in_the_table():
    assert set(PRESETS) == {row[0] for row in TABLE}


@pytest.mark.parametrize('depth', [0.4, 1.0, 3.0])
def test_depth_error_is_the_effect_of_a_blur_error(depth):
    lens = Lens(0.016, 1.4, 1.125e-5)
    kappa, delta = lens.kappa(), 0.01
    # Blur of a point nearer than the focus, measured delta px too small.
    blur = kappa * (1.0 / depth - 0.1) - delta
    assert depth_error(depth, kappa, delta) == pytest.approx(
        1.0 / (0.1 + blur / kappa) - depth, rel=0.02
    )
    assert depth_error(depth, kappa, delta) == pytest.approx(
        depth**2 * inverse_depth_error(kappa, delta)
    )


def test_error_at_the_range_limit_is_the_given_share():
    limit = range_limit(13.9)
    assert depth_error(limit, 13.9) == pytest.approx(MAX_RELATIVE_ERROR * limit)
    assert depth_error(0.9 * limit, 13.9) < MAX_RELATIVE_ERROR * 0.9 * limit


def test_hyperfocal_distance_equals_the_textbook_formula():
    lens = Lens(0.016, 1.4, 1.125e-5)
    # H = F^2 / (A c) + F with a circle of confusion of one pixel.
    textbook = 0.016**2 / (1.4 * 1.125e-5) + 0.016
    assert hyperfocal_distance(lens.kappa()) + 0.016 == pytest.approx(textbook)


@pytest.mark.parametrize('far', [5.0, math.inf])
@pytest.mark.parametrize('kappa', [0.5, 3.0, 16.0])
@pytest.mark.parametrize('blur', [0.5, 2.0])
def test_sweep_planes_limit_the_blur_with_fewest_planes(far, kappa, blur):
    planes = np.array(sweep_planes(0.3, far, kappa, blur))
    assert planes[0] == (0.0 if far == math.inf else pytest.approx(1.0 / far))
    assert planes[-1] == pytest.approx(1.0 / 0.3)
    points = np.linspace(planes[0], planes[-1], 1000)
    worst = kappa * np.abs(points[:, None] - planes).min(axis=1).max()
    assert worst <= blur * 1.0001
    if len(planes) > 2:
        spacing = (planes[-1] - planes[0]) / (len(planes) - 2)
        assert 0.5 * kappa * spacing > blur  # one plane fewer would be too few


def test_whole_number_of_spacings_adds_no_plane():
    assert sweep_planes(0.5, 2.0, 8.0, 2.0) == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize('ends', [(2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0)])
def test_invalid_ranges_raise(ends):
    with pytest.raises(ValueError, match='near to far'):
        sweep_planes(*ends, 10.0)


@pytest.mark.parametrize(
    ('depth_max', 'far', 'requested', 'exceeded'),
    [
        (20.0, 0.2, 5.0, False),
        (20.0, 0.1, 10.0, True),
        (5.0, 0.0, 5.0, False),
        (20.0, 0.0, 20.0, True),
        (20.0, -0.1, 20.0, True),
        (math.inf, 0.0, math.inf, True),
    ],
)
def test_requested_range_ends_at_far_plane_or_depth_max(depth_max, far, requested, exceeded):
    check = check_range(13.9, depth_max, far)  # range limit 6.95 m
    assert check.requested == pytest.approx(requested)
    assert check.exceeded == exceeded
    assert '6.95 m' in str(check)
    assert ('beyond' in str(check)) == exceeded


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
