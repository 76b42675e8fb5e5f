# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera."""

import math

import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera


def test_magnification_keeps_the_principal_point():
    camera = PinholeCamera(640, 480, 500.0, 510.0, 320.0, 240.0).magnified(1.1)
    assert (camera.fx, camera.fy) == pytest.approx((550.0, 561.0))
    assert (camera.cx, camera.cy) == (320.0, 240.0)


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ((0, 480, 500.0, 500.0, 320.0, 240.0), 'size must be positive'),
        ((640, 480, 0.0, 500.0, 320.0, 240.0), 'not calibrated'),
        ((640, 480, math.nan, 500.0, 320.0, 240.0), 'not calibrated'),
        ((640, 480, 500.0, 500.0, math.inf, 240.0), 'finite'),
    ],
)
def test_invalid_cameras_raise(values, text):
    with pytest.raises(ValueError, match=text):
        PinholeCamera(*values)


def test_centred_camera_has_its_principal_point_in_the_middle():
    camera = PinholeCamera.centred(64, 48, 60.0)
    assert camera == PinholeCamera(64, 48, 60.0, 60.0, 31.5, 23.5)
