# SPDX-License-Identifier: Apache-2.0
"""Blur widths: spectrum of a texture, and targets without an edge."""

import math

import cv2
import numpy as np
import pytest

from blurred_images import disc_blurred
from dualfocus_ros.calibration.blur_widths import measure_blur, power_spectrum, relative_radius
from dualfocus_ros.calibration.target_images import FocusImage
from dualfocus_ros.exceptions import CalibrationError


def test_radius_from_texture():
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.uniform(0, 1, (480, 640)).astype(np.float32), (0, 0), 0.6)
    _, sharp = power_spectrum(texture)
    for radius in (2.0, 5.0, 9.0):
        image, truth = disc_blurred(texture, radius)
        image = 0.8 * image + rng.normal(0, 0.002, image.shape)  # darker and noisy
        found = relative_radius(*power_spectrum(image.astype(np.float32)), sharp)
        assert found == pytest.approx(2.0 * math.sqrt(truth**2 - 0.1), rel=0.04)
    with pytest.raises(ValueError, match='64 x 64'):
        power_spectrum(texture[:40, :40])


def test_rejects_a_target_without_edge():
    flat = [[FocusImage(np.full((240, 320), 90, np.uint8), 0.2 * n)] for n in range(8)]
    with pytest.raises(CalibrationError, match='no slanted edge'):
        measure_blur(flat, 'edge')
    with pytest.raises(ValueError, match='auto, edge, texture'):
        measure_blur(flat, 'guess')
