# SPDX-License-Identifier: Apache-2.0
"""Registration of images with different blur."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.calibration.target_images import FocusImage, gradient_energy
from dualfocus_ros.calibration.view_registration import equalize_blur, measure_views
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


def test_blur_is_equalized():
    rng = np.random.default_rng(3)
    sharp = cv2.GaussianBlur(rng.uniform(0, 255, (160, 200)).astype(np.float32), (0, 0), 1.0)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3.0)
    for pair in ((sharp, blurred), (blurred, sharp)):
        smooth = [cv2.GaussianBlur(i, (0, 0), 1.5) for i in equalize_blur(*pair)]
        energies = [gradient_energy(i) for i in smooth]
        assert energies[0] == pytest.approx(energies[1], rel=0.05)


def test_rejects_unrelated_images():
    rng = np.random.default_rng(0)
    unrelated = [
        [FocusImage(rng.integers(0, 255, (120, 160), dtype=np.uint8), q)]
        for q in np.linspace(0.2, 2.4, 7)
    ]
    with refuses('could be registered'):
        measure_views(unrelated)
