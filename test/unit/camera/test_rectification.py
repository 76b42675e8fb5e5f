# SPDX-License-Identifier: Apache-2.0
"""Rectification: source coordinates of the pixels of the pinhole image."""

from dataclasses import replace

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration, source_coordinates

CAMERA = PinholeCamera(160, 120, 130.0, 128.0, 81.0, 58.5)
MODELS = [
    ('plumb_bob', (-0.25, 0.08, 0.001, -0.002, 0.0)),
    ('plumb_bob', (-0.25, 0.08, 0.001, -0.002)),
    ('rational_polynomial', (0.3, -0.1, 0.001, 0.0, 0.02, 0.5, -0.05, 0.03)),
    ('equidistant', (0.05, -0.02, 0.004, -0.001)),
]


def distort(x, y, model, d):
    """Return normalised distorted coordinates by the textbook formulas."""
    r2 = x * x + y * y
    if model == 'equidistant':
        r = np.sqrt(r2)
        theta = np.arctan(r)
        scale = theta * (1 + sum(k * theta ** (2 * i) for i, k in enumerate(d, 1))) / r
        return x * scale, y * scale
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, *([0.0] * (8 - len(d))))
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


@pytest.mark.parametrize(('model', 'coefficients'), [*MODELS, ('plumb_bob', ())])
@pytest.mark.parametrize('moved', [False, True])
def test_source_coordinates_follow_the_distortion_models(model, coefficients, moved):
    """Combine motion, different intrinsics (breathing and drift) and distortion."""
    stored = replace(CAMERA.magnified(0.97), cx=82.5, cy=57.0)
    motion = np.array([[1.01, 0.0, -2.5], [0.0, 1.01, 1.75], [0.0, 0.0, 1.0]])
    found = source_coordinates(
        CameraCalibration(stored, model, coefficients), CAMERA, motion if moved else None
    )
    x, y = np.meshgrid(*found) if found[0].ndim == 1 else found
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    if moved:
        u, v = 1.01 * u - 2.5, 1.01 * v + 1.75
    xn, yn = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    xd, yd = distort(xn, yn, model, coefficients)
    np.testing.assert_allclose(x, xd * stored.fx + stored.cx, atol=2e-3)
    np.testing.assert_allclose(y, yd * stored.fy + stored.cy, atol=2e-3)


def test_source_coordinates_include_the_rotation():
    angle = np.deg2rad(3.0)
    turn = np.array(
        [
            [np.cos(angle), 0.0, np.sin(angle)],
            [0.0, 1.0, 0.0],
            [-np.sin(angle), 0.0, np.cos(angle)],
        ]
    )
    view = CameraCalibration(CAMERA, rotation=tuple(turn.ravel()))
    x, y = source_coordinates(view, CAMERA)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    ray = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)])
    a, b, c = np.tensordot(turn.T, ray, 1)
    np.testing.assert_allclose(x, a / c * CAMERA.fx + CAMERA.cx, atol=2e-3)
    np.testing.assert_allclose(y, b / c * CAMERA.fy + CAMERA.cy, atol=2e-3)


def test_negligible_displacement_returns_none():
    for distortion in ((), (0.0,) * 5):
        assert source_coordinates(CameraCalibration(CAMERA, '', distortion), CAMERA) is None
    nearly = CameraCalibration(CAMERA.magnified(1.0 + 1e-5))
    assert source_coordinates(nearly, CAMERA, np.eye(3)) is None


@pytest.mark.parametrize(
    ('model', 'coefficients', 'message'),
    [
        ('thin_prism', (0.1, 0.2), 'plumb_bob, rational_polynomial, equidistant'),
        ('plumb_bob', (0.1, 0.2), '4 or 5 coefficients, got 2'),
        ('equidistant', (0.1,) * 5, '4 coefficients, got 5'),
        ('plumb_bob', (float('nan'), 0.0, 0.0, 0.0), 'finite'),
    ],
)
def test_invalid_distortion_raises(model, coefficients, message):
    with pytest.raises(ValueError, match=message):
        CameraCalibration(CAMERA, model, coefficients)
