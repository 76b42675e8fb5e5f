# SPDX-License-Identifier: Apache-2.0
"""Images of a target."""

import numpy as np
import pytest

from dualfocus_ros.calibration.target_images import FocusImage, Region, group_by_focus
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
