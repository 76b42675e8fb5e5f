# SPDX-License-Identifier: Apache-2.0
"""Validation and properties of planes and focal stacks."""

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack, Plane


def plane(dioptres, stamp=0, shape=(8, 10, 3)):
    return Plane(np.zeros(shape, np.uint8), dioptres, stamp)


def test_reference_size_focus_and_duration():
    stack = FocalStack((plane(0.3, 100), plane(2.0, 400), plane(1.0, 700)))
    assert stack.reference == 1
    assert stack.sweep_duration_ns == 600
    assert stack.size == (8, 10)
    assert stack.focus_dioptres.tolist() == [0.3, 2.0, 1.0]


@pytest.mark.parametrize(
    ('planes', 'text'),
    [
        ((plane(1.0),), '2 to 32 planes, got 1'),
        (tuple(plane(0.1 * n) for n in range(33)), 'got 33'),
        ((plane(1.0), plane(1.0)), 'at least 2 different focus distances'),
        ((plane(1.0), plane(2.0, shape=(8, 12, 3))), 'differ in size'),
        ((plane(1.0), plane(2.0, shape=(8, 10))), 'differ in size'),
    ],
)
def test_invalid_stacks_raise(planes, text):
    with pytest.raises(ValueError, match=text):
        FocalStack(planes)


def test_invalid_planes_raise():
    with pytest.raises(ValueError, match='uint8'):
        Plane(np.zeros((4, 4, 3), np.float32), 1.0)
    with pytest.raises(ValueError, match='shape'):
        Plane(np.zeros((4, 4, 4), np.uint8), 1.0)
    with pytest.raises(ValueError, match='finite'):
        Plane(np.zeros((4, 4), np.uint8), float('nan'))
    camera = PinholeCamera(4, 4, 5.0, 5.0, 1.5, 1.5)
    calibration = CameraCalibration(camera, 'plumb_bob', (0.1,) * 4)
    with pytest.raises(ValueError, match='output of its calibration'):
        Plane(np.zeros((4, 4), np.uint8), 1.0, calibration=calibration)
