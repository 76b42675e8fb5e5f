# SPDX-License-Identifier: Apache-2.0
"""Rectification: where each pixel of the pinhole image comes from."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.optics.camera import PinholeCamera
from dualfocus_ros.stacks.rectify import CameraCalibration, Rectifier

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


@pytest.mark.parametrize(('model', 'coefficients'), MODELS)
def test_every_pixel_comes_from_where_the_model_says(model, coefficients):
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    # A smooth image: linear interpolation of it is exact to rounding.
    image = np.round(40 + u * 0.8 + v * 0.6).astype(np.uint8)
    rectified, camera = Rectifier().rectify(image, CameraCalibration(CAMERA, model, coefficients))
    assert camera == CAMERA
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    xd, yd = distort(x, y, model, coefficients)
    ud, vd = xd * CAMERA.fx + CAMERA.cx, yd * CAMERA.fy + CAMERA.cy
    seen = (ud >= 1) & (ud <= CAMERA.width - 2) & (vd >= 1) & (vd <= CAMERA.height - 2)
    assert seen.mean() > 0.6
    expected = 40 + ud * 0.8 + vd * 0.6
    assert np.abs(rectified - expected)[seen].max() <= 1.1


def test_nothing_to_correct_returns_the_very_image():
    image = np.zeros((120, 160, 3), np.uint8)
    for distortion in ((), (0.0,) * 5):
        rectified, camera = Rectifier().rectify(image, CameraCalibration(CAMERA, '', distortion))
        assert rectified is image
        assert camera is CAMERA


def test_projection_of_another_zoom_is_applied():
    output = PinholeCamera(160, 120, 65.0, 64.0, 81.0, 58.5)
    image = np.full((120, 160), 200, np.uint8)
    rectified, camera = Rectifier().rectify(image, CameraCalibration(CAMERA, rectified=output))
    assert camera == output
    assert (rectified > 0).mean() == pytest.approx(0.25, abs=0.02)


def test_pixels_that_the_camera_did_not_see_are_told():
    calibration = CameraCalibration(CAMERA, 'plumb_bob', (0.25, 0.08, 0.001, -0.002))
    rectifier = Rectifier()
    white = np.full((120, 160), 255, np.uint8)
    rectified, _ = rectifier.rectify(white, calibration)
    seen = rectifier.seen(calibration)
    assert np.array_equal(seen, rectified == 255)
    assert 0.6 < seen.mean() < 0.99
    assert not seen[0, 0] and seen[60, 80]
    assert rectifier.seen(calibration) is seen


def test_all_is_seen_where_nothing_is_cut():
    rectifier = Rectifier()
    assert rectifier.seen(CameraCalibration(CAMERA)) is None
    assert rectifier.seen(CameraCalibration(CAMERA, 'plumb_bob', (-0.25, 0.0, 0.0, 0.0))) is None


def test_maps_are_kept_and_bounded(monkeypatch):
    made = []
    original = cv2.initUndistortRectifyMap
    monkeypatch.setattr(
        cv2, 'initUndistortRectifyMap', lambda *a: made.append(1) or original(*a)
    )
    image = np.zeros((120, 160), np.uint8)
    cameras = [
        CameraCalibration(CAMERA.magnified(1 + 0.01 * n), 'plumb_bob', (-0.2, 0.0, 0.0, 0.0))
        for n in range(3)
    ]
    rectifier = Rectifier(max_bytes=2 * 120 * 160 * 7)
    for camera in [cameras[0], cameras[1], cameras[0], cameras[2], cameras[0], cameras[1]]:
        rectifier.rectify(image, camera)
    assert len(made) == 4


@pytest.mark.parametrize(('model', 'coefficients', 'message'), [
    ('thin_prism', (0.1, 0.2), 'plumb_bob, rational_polynomial, equidistant'),
    ('plumb_bob', (0.1, 0.2), '4 or 5 coefficients, got 2'),
    ('equidistant', (0.1,) * 5, '4 coefficients, got 5'),
    ('plumb_bob', (float('nan'), 0.0, 0.0, 0.0), 'finite'),
])
def test_what_cannot_be_undistorted_is_refused(model, coefficients, message):
    with pytest.raises(ValueError, match=message):
        CameraCalibration(CAMERA, model, coefficients)
