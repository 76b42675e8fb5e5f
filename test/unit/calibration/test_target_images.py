# SPDX-License-Identifier: Apache-2.0
"""Images of a target, and the peak of their sharpness."""

import numpy as np
import pytest

from dualfocus_ros.calibration.target_images import (
    FocusImage,
    Region,
    find_sharpness_peak,
    group_by_focus,
)
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


def test_groups_images_by_focus_up_to_a_limit():
    pixels = np.zeros((20, 20), np.uint8)
    images = [
        FocusImage(pixels, q, moving=moving)
        for q, moving in ((1.0, False), (0.5, True), (1.001, False), (0.25, False), (1.0, False))
    ]
    groups = group_by_focus(images, keep=2)
    assert [[round(i.dioptres, 2) for i in group] for group in groups] == [[0.25], [1.0, 1.0]]
    with refuses('more than 64'):
        group_by_focus((FocusImage(pixels, 0.02 * n) for n in range(100)), keep=1)
    with refuses('differ in size'):
        group_by_focus([images[0], FocusImage(np.zeros((8, 8), np.uint8), 2.0)], keep=1)
    with pytest.raises(ValueError, match='must lie in the image of 20 x 20'):
        Region(5, 5, 30, 16).crop(pixels)


def test_luminance_of_srgb_and_linear_values():
    pixels = np.full((4, 4, 3), 188, np.uint8)
    assert FocusImage(pixels).luminance() == pytest.approx(0.503, abs=0.002)
    assert FocusImage(pixels, linear=True).luminance() == pytest.approx(188 / 255, abs=1e-6)


class TestSharpnessPeak:
    u = np.linspace(0.0, 300.0, 31)

    def test_interpolates_and_averages_repeated_sweeps(self):
        measure = (1.0 + ((self.u - 123.4) / 30.0) ** 2) ** -1.3
        peak = find_sharpness_peak([*self.u, *self.u[::-1]], [*measure, *measure[::-1]])
        assert peak.position == pytest.approx(123.4, abs=0.3)
        assert peak.contrast > 10.0 and len(peak.positions) == 31

    def test_refusals(self):
        with refuses('3 lens positions'):
            find_sharpness_peak([1, 2, 3], [1.0, 2.0, 1.0])
        with refuses('hardly sharper'):
            find_sharpness_peak(self.u, 1.0 + 0.01 * np.sin(self.u))
        with refuses('end of the sweep'):
            find_sharpness_peak(self.u, 1.0 + self.u)
        two = sum((1.0 + ((self.u - at) / 12.0) ** 2) ** -2.0 for at in (80.0, 230.0))
        with refuses('no clear single peak'):
            find_sharpness_peak(self.u, two)
