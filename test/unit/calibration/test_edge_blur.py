# SPDX-License-Identifier: Apache-2.0
"""Blur width at a slanted edge."""

import math

import cv2
import numpy as np
import pytest
from scipy import integrate

from blurred_images import disc_blurred
from dualfocus_ros.calibration.edge_blur import disc_edge, edge_width, find_edge


def edge_image(slant=5.0, dark=0.06, bright=0.75):
    """Return an edge through (161, 120), area-sampled from four times the resolution."""
    y, x = (np.mgrid[0:960, 0:1280] - 1.5) / 4.0
    c, s = math.cos(math.radians(slant)), math.sin(math.radians(slant))
    side = (x - 161.0) * c + (y - 120.0) * s > 0.0
    fine = np.where(side, bright, dark).astype(np.float32)
    return cv2.resize(fine, (320, 240), interpolation=cv2.INTER_AREA)


def test_edge_profile_has_the_variance_of_a_disc():
    x = np.arange(-40.0, 40.0, 0.01)
    line = np.gradient(disc_edge(x, 8.0, 1.0), x)
    assert integrate.trapezoid(line, x) == pytest.approx(1.0, abs=1e-3)
    assert integrate.trapezoid(line * x**2, x) == pytest.approx(16.0 + 1.0, rel=0.01)


@pytest.mark.parametrize('slant', [5.0, -7.0, 84.0, 187.0])
def test_width_at_an_edge(slant):
    sharp = edge_image(slant)
    edge = find_edge(sharp)
    assert edge is not None
    off = (math.degrees(edge.angle) - slant + 90.0) % 180.0 - 90.0
    assert abs(off) < 1.0
    for radius in (1.5, 4.0, 9.0):
        image, truth = disc_blurred(sharp, radius)
        noisy = image + np.random.default_rng(0).normal(0, 0.01, image.shape)
        measured = edge_width(noisy.astype(np.float32), edge)
        assert measured is not None
        # Plus the width of a pixel.
        wide = math.hypot(truth, math.sqrt(1 / 12))
        assert measured[0] == pytest.approx(wide, rel=0.015, abs=0.04)


def test_finds_no_edge_in_texture_or_without_slant():
    texture = np.random.default_rng(0).uniform(0, 1, (240, 320)).astype(np.float32)
    assert find_edge(cv2.GaussianBlur(texture, (0, 0), 2.0)) is None
    assert find_edge(edge_image(0.0)) is None
