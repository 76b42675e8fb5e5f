# SPDX-License-Identifier: Apache-2.0
"""Field curvature: offset, map and validation."""

import math

import numpy as np
import pytest

from dualfocus_ros.camera.field_curvature import (
    check_coefficients,
    field_curvature_map,
    field_curvature_offset,
)


def test_offset_is_a_polynomial_of_the_squared_radius():
    r2 = np.array([0.0, 0.25, 1.0])
    assert field_curvature_offset(r2, (0.3, 0.0)) == pytest.approx([0.0, 0.075, 0.3])
    assert field_curvature_offset(r2, (0.3, -0.2)) == pytest.approx([0.0, 0.075 - 0.2 / 16, 0.1])


def test_map_is_in_half_diagonals_from_the_principal_point():
    middle = field_curvature_map(480, 640, (0.3, 0.1))
    assert middle.shape == (480, 640) and middle.dtype == np.float32
    assert np.array_equal(middle, middle[::-1, ::-1])
    assert middle[0, 0] == pytest.approx(0.4, rel=0.01)  # half a pixel short of the corner
    moved = field_curvature_map(480, 640, (0.3, 0.0), (100.0, 50.0))
    assert moved[50, 100] == 0.0
    assert moved[50, 500] == pytest.approx(0.3)  # 400 pixels are half a diagonal


def test_map_scales_with_the_image_size():
    large, small = (field_curvature_map(h, w, (0.3, 0.1)) for h, w in ((480, 640), (240, 320)))
    means = large.reshape(240, 2, 320, 2).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 1e-5


@pytest.mark.parametrize('coefficients', [(0.3,), (0.1, 0.2, 0.3), (math.nan, 0.0)])
def test_invalid_coefficients_raise(coefficients):
    with pytest.raises(ValueError, match='expected two numbers'):
        check_coefficients(coefficients)
