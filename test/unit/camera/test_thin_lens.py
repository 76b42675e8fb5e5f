# SPDX-License-Identifier: Apache-2.0
"""Thin lens against textbook values."""

import math

import pytest

from dualfocus_ros.camera.thin_lens import Lens

LENS = Lens(focal_length=0.016, f_number=1.4, pixel_pitch=1.125e-5)


def test_image_distance_obeys_the_lens_equation():
    for distance in (0.1, 0.5, 2.0, 50.0):
        v = LENS.image_distance(1.0 / distance)
        assert 1.0 / v + 1.0 / distance == pytest.approx(1.0 / LENS.focal_length)
    assert LENS.image_distance(0.0) == LENS.focal_length


@pytest.mark.parametrize(
    ('focal_length', 'distance', 'percent'),
    [(0.0044, 0.1, 4.6), (0.0068, 0.3, 2.3), (0.016, 0.5, 3.3), (0.025, 1.0, 2.6)],
)
def test_breathing_of_common_lenses(focal_length, distance, percent):
    lens = Lens(focal_length, 2.0, 5e-6)
    assert (lens.magnification(1.0 / distance, 0.0) - 1.0) * 100.0 == pytest.approx(
        percent, abs=0.06
    )


def test_circle_of_confusion_equals_the_textbook_formula():
    s, d = 1.5, 0.6
    v = LENS.image_distance(1.0 / s)
    aperture = LENS.focal_length / LENS.f_number
    expected = aperture * v * abs(1.0 / LENS.focal_length - 1.0 / v - 1.0 / d) / LENS.pixel_pitch
    assert LENS.coc_diameter(1.0 / s, 1.0 / d) == pytest.approx(expected)
    assert LENS.coc_diameter(1.0 / s, 1.0 / s) == 0.0


def test_kappa_equals_that_of_the_published_camera():
    assert Lens(0.05, 8.0, 1.2e-5).kappa() == pytest.approx(26.0, abs=0.1)


def test_focus_inside_the_focal_length_raises():
    with pytest.raises(ValueError, match='cannot focus at'):
        LENS.image_distance(70.0)


@pytest.mark.parametrize('value', [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize('name', ['focal_length', 'f_number', 'pixel_pitch'])
def test_invalid_lenses_raise(name, value):
    values = {'focal_length': 0.016, 'f_number': 1.4, 'pixel_pitch': 1e-5, name: value}
    with pytest.raises(ValueError, match=name):
        Lens(**values)
