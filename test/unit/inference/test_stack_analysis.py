# SPDX-License-Identifier: Apache-2.0
"""Geometry, motion and exposure of a stack, up to the input of the network."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.camera.srgb import decode_srgb8, encode_srgb8
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference import resampling
from dualfocus_ros.inference.estimator_cache import EstimatorCache
from dualfocus_ros.inference.network_runner import align_plane
from dualfocus_ros.inference.resampling import common_valid_mask, resample_masks, to_tensor
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_analysis import analyze_stack

CPU = torch.device('cpu')
CAMERA = PinholeCamera(320, 240, 400.0, 400.0, 150.0, 125.0)
LENS = Lens(0.016, 1.4, 4e-5)
FOCUS = (0.3, 1.4, 2.5)
DISTORTION = (-0.15, 0.03, 0.001, -0.002, 0.0)
INNER = np.s_[24:-24, 24:-24]
UNTOUCHED = {'alignment': 'off', 'normalise_exposure': False}


def scene(x, y):
    """Return linear light with detail at several scales, at any places."""
    light = 0.35 + 0.1 * np.sin(x / 4.1 + np.sin(y / 23.0)) + 0.1 * np.cos(y / 3.3 + x / 29.0)
    return light + 0.08 * np.sin(x / 17.0) * np.cos(y / 13.0)


def undistorted(x, y):
    """Return the normalised coordinates whose image under DISTORTION is (x, y)."""
    k1, k2, p1, p2, _ = DISTORTION
    a, b = x.copy(), y.copy()
    for _ in range(60):
        r2 = a * a + b * b
        radial = 1.0 + k1 * r2 + k2 * r2 * r2
        a = (x - 2.0 * p1 * a * b - p2 * (r2 + 2.0 * a * a)) / radial
        b = (y - p1 * (r2 + 2.0 * b * b) - 2.0 * p2 * a * b) / radial
    return a, b


def photograph(scale=1.0, centre=(0.0, 0.0), shift=(0.0, 0.0), distorted=False, gain=1.0):
    """Return the uint8 image of the scene, which CAMERA sees undistorted at scale 1."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(float)
    u, v = u - shift[0], v - shift[1]
    x = (u - CAMERA.cx - centre[0]) / (CAMERA.fx * scale)
    y = (v - CAMERA.cy - centre[1]) / (CAMERA.fy * scale)
    if distorted:
        x, y = undistorted(x, y)
    light = scene(x * CAMERA.fx + CAMERA.cx, y * CAMERA.fy + CAMERA.cy)
    return np.repeat(encode_srgb8(gain * light)[..., None], 3, axis=2)


def stack_of(images, focus=FOCUS, distorted=False, cameras=None):
    planes = []
    for n, (image, q) in enumerate(zip(images, focus, strict=True)):
        camera = CAMERA if cameras is None else cameras[n]
        calibration = CameraCalibration(camera, 'plumb_bob', DISTORTION) if distorted else None
        planes.append(Plane(image, q, n + 1, camera, n, calibration))
    return FocalStack(tuple(planes))


@dataclass
class AlignedStack:
    """Input of the network, as the estimator prepares it."""

    images: list
    valid: torch.Tensor | None
    overexposed: torch.Tensor | None


def prepared(stack, settings):
    found = analyze_stack(stack, settings, EstimatorCache())
    images = [
        align_plane(torch.from_numpy(plane.image), positions, float(gain))
        for plane, positions, gain in zip(stack.planes, found.positions, found.gains, strict=True)
    ]
    valid = common_valid_mask(found.positions, found.size, CPU)
    overexposed = resample_masks(found.overexposed, found.positions, found.size, CPU)
    return AlignedStack(images, valid, overexposed), found


def worst(result, reference):
    """Return the largest difference of a plane from the reference, in grey levels of 255."""
    images = [image[0].numpy() for image in result.images]
    return max(float(np.abs(image - images[reference])[INNER].max()) for image in images) * 255.0


def scales(lens=LENS):
    return [lens.magnification(q, max(FOCUS)) for q in FOCUS]


@pytest.fixture
def interpolations(monkeypatch):
    """Count how often the network's input is interpolated."""
    calls = []
    original = resampling.functional.grid_sample
    monkeypatch.setattr(
        resampling.functional, 'grid_sample', lambda *a, **k: calls.append(1) or original(*a, **k)
    )
    return calls


@pytest.mark.parametrize('distorted', [False, True])
@pytest.mark.parametrize('moved', [False, True])
def test_one_interpolation_corrects_all_geometry(distorted, moved, interpolations):
    shifts = [(3.1, -2.2), (-1.7, 1.3), (0.0, 0.0)] if moved else [(0.0, 0.0)] * 3
    images = [
        photograph(scale, shift=shift, distorted=distorted)
        for scale, shift in zip(scales(), shifts, strict=True)
    ]
    stack = stack_of(images, distorted=distorted)
    settings = EstimatorSettings(
        breathing='thin_lens',
        lens=LENS,
        alignment='correct' if moved else 'off',
        normalise_exposure=False,
    )
    result, found = prepared(stack, settings)
    assert len(interpolations) == (3 if distorted else 2)
    assert worst(result, 2) < (6.0 if moved else 2.5)
    left, _ = prepared(stack, replace(settings, breathing='none', alignment='off'))
    assert worst(left, 2) > 20.0
    assert found.camera == CAMERA


def test_polynomial_breathing_with_centre_drift():
    g1, g2, dx, dy = -0.02, 0.003, 0.006, -0.004
    size = [1.0 + g1 * q + g2 * q * q for q in FOCUS]
    images = [
        photograph(size[n] / size[2], (dx * (q - FOCUS[2]) * 320, dy * (q - FOCUS[2]) * 320))
        for n, q in enumerate(FOCUS)
    ]
    settings = EstimatorSettings(
        breathing='polynomial',
        breathing_coefficients=(g1, g2),
        breathing_centre_drift=(dx, dy),
        **UNTOUCHED,
    )
    assert worst(prepared(stack_of(images), settings)[0], 2) < 2.5
    without = replace(settings, breathing_centre_drift=(0.0, 0.0))
    assert worst(prepared(stack_of(images), without)[0], 2) > 20.0


def test_without_a_breathing_model_each_image_has_intrinsics():
    cameras = [CAMERA.magnified(scale) for scale in scales()]
    stack = stack_of([photograph(scale) for scale in scales()], cameras=cameras)
    result, found = prepared(stack, EstimatorSettings(**UNTOUCHED))
    assert worst(result, 2) < 2.5
    assert found.camera == cameras[2]
    # A model replaces the scale of the intrinsics.
    modelled = EstimatorSettings(breathing='thin_lens', lens=LENS, **UNTOUCHED)
    assert worst(prepared(stack, modelled)[0], 2) < 2.5


def test_valid_mask_excludes_pixels_outside_a_plane():
    stack = stack_of([photograph(1.1), photograph(), photograph()])
    settings = EstimatorSettings(
        breathing='polynomial', breathing_coefficients=(-0.05,), **UNTOUCHED
    )
    result, _ = prepared(stack, settings)
    ratio = (1.0 - 0.05 * FOCUS[0]) / (1.0 - 0.05 * FOCUS[2])
    x = (np.arange(320) - CAMERA.cx) * ratio + CAMERA.cx
    y = (np.arange(240) - CAMERA.cy) * ratio + CAMERA.cy
    inside = ((y >= -0.5) & (y <= 239.5))[:, None] & ((x >= -0.5) & (x <= 319.5))
    assert np.array_equal(result.valid.numpy(), inside)
    assert prepared(stack, EstimatorSettings(**UNTOUCHED))[0].valid is None


def test_aligned_stack_of_one_brightness_is_unchanged(interpolations):
    stack = stack_of([photograph()] * 3)
    result, found = prepared(stack, EstimatorSettings())
    assert not interpolations
    assert found.alignment.max_displacement_px < 0.1
    for image, plane in zip(result.images, stack.planes, strict=True):
        assert torch.equal(image, to_tensor(torch.from_numpy(plane.image)))


@pytest.mark.parametrize('mode', ['off', 'flag', 'correct'])
def test_motion_is_ignored_flagged_or_corrected(mode):
    stack = stack_of([photograph(shift=(4.0, 3.0)), photograph(), photograph()])
    result, found = prepared(stack, EstimatorSettings(alignment=mode, normalise_exposure=False))
    if mode == 'off':
        assert found.alignment is None
    else:
        assert found.alignment.displacement_px[0] == pytest.approx(5.0, abs=0.3)
    assert (worst(result, 2) < 6.0) == (mode == 'correct')


def test_planes_of_different_exposure_are_equalised():
    gains = (1.0, 0.8, 1.15)
    stack = stack_of([photograph(gain=gain) for gain in gains])
    result, found = prepared(stack, EstimatorSettings(alignment='off'))
    np.testing.assert_allclose(found.gains, [1.15, 1.15 / 0.8, 1.0], rtol=0.01)
    assert worst(result, 2) < 3.0
    left, found = prepared(stack, EstimatorSettings(**UNTOUCHED))
    assert (found.gains == 1.0).all() and worst(left, 2) > 10.0


def test_defocus_clipping_and_darkness_change_no_gain():
    rng = np.random.default_rng(1)
    sharp = (rng.random((240, 320)) < 0.2) * 0.6 + 0.05
    sharp[:, :100] = 0.0
    sharp[:60] = 3.0
    spectrum = np.fft.rfft2(sharp)
    fy, fx = np.fft.fftfreq(240)[:, None], np.fft.rfftfreq(320)
    images = []
    for blur in (3.0, 1.5, 0.0):
        light = np.fft.irfft2(spectrum * np.exp(-2.0 * (np.pi * blur) ** 2 * (fx**2 + fy**2)))
        images.append(encode_srgb8(light * (1.2 if blur == 3.0 else 1.0)))
    stack = stack_of([np.ascontiguousarray(image) for image in images])
    gains = analyze_stack(stack, EstimatorSettings(alignment='off'), EstimatorCache()).gains
    np.testing.assert_allclose(gains, [1.0 / 1.2, 1.0, 1.0], rtol=0.02)
    dark = stack_of([np.full((240, 320), level, np.uint8) for level in (4, 6, 8)])
    assert (analyze_stack(dark, EstimatorSettings(), EstimatorCache()).gains == 1.0).all()


def test_gain_acts_on_linear_light():
    images = [photograph(gain=0.6), photograph(), photograph()]
    result, _ = prepared(stack_of(images), EstimatorSettings(alignment='off'))
    codes = (result.images[0][0].numpy() * 255.0).round().astype(np.uint8)
    wanted = decode_srgb8(images[2][..., 0])
    assert np.abs(decode_srgb8(codes) - wanted)[INNER].max() < 0.02


def test_overexposed_mask_follows_the_resampled_plane():
    bright = photograph()
    bright[100:110, 200:220] = 255
    bright[30:40, 30:40, 1] = 255  # other channels still have contrast
    stack = stack_of([bright, photograph(), photograph()])
    settings = EstimatorSettings(
        breathing='polynomial', breathing_coefficients=(0.02,), **UNTOUCHED
    )
    result, found = prepared(stack, settings)
    assert not result.overexposed[1:].any()
    assert found.clipped[0].sum() == 300 and found.clipped[1] is None
    ratio = (1.0 + 0.02 * FOCUS[0]) / (1.0 + 0.02 * FOCUS[2])
    rows, columns = np.nonzero(result.overexposed[0].numpy())
    for low, high, found, centre in ((98, 111, rows, CAMERA.cy), (198, 221, columns, CAMERA.cx)):
        assert found.min() == pytest.approx((low - centre) / ratio + centre, abs=1.0)
        assert found.max() == pytest.approx((high - centre) / ratio + centre, abs=1.0)
    assert prepared(stack_of([photograph()] * 3), settings)[0].overexposed is None
