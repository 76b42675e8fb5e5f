# SPDX-License-Identifier: Apache-2.0
"""Downsampling of planes: light, intrinsics and units."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.depth_resolution import BLUR_ERROR
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration, source_coordinates
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.decimation import decimated_size, downsample, replace_image
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings

CAMERA = PinholeCamera(128, 96, 150.0, 151.0, 60.3, 50.1)
EVERYTHING = OutputRequest(sigma=True, confidence=True, all_in_focus=True, points=True)


def scene(seed=0, shape=(96, 128, 3)):
    """Return an image with detail at several scales."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    for size in (6, 20, 60):
        noise = rng.uniform(-60, 60, (size, size, *shape[2:])).astype(np.float32)
        image += cv2.resize(noise, shape[1::-1])
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def decimate(plane, factor):
    return replace_image(plane, downsample(plane.image, decimated_size(plane.image.shape, factor)))


def make_stack(**changes):
    image = scene(**changes)
    planes = [
        Plane(cv2.GaussianBlur(image, (0, 0), 0.3 + 2.0 * abs(q - 1.0)), q, n * 10**8, CAMERA)
        for n, q in enumerate((0.2, 0.8, 1.4, 2.0))
    ]
    return FocalStack(tuple(planes), 'optical')


def estimator(**settings):
    return DepthEstimator(threads=1, device='cpu', settings=EstimatorSettings(**settings))


@pytest.mark.parametrize('shape', [(4, 6, 3), (4, 6)])
def test_pixel_is_the_mean_light_of_its_area(shape):
    checks = np.zeros(shape, np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    # Half the light of white has the sRGB code 188, not 128.
    assert np.array_equal(downsample(checks, (3, 2)), np.full((2, 3, *shape[2:]), 188))


def test_uniform_image_keeps_its_value():
    for value in range(256):
        even = np.full((6, 6), value, np.uint8)
        assert np.abs(downsample(even, (3, 3)).astype(int) - value).max() <= 1


@pytest.mark.parametrize('factor', [2, 3])
@pytest.mark.parametrize('size', [(128, 96), (131, 97)])
def test_decimation_keeps_the_direction_of_a_ray(factor, size):
    """A bright spot lies at the projection of the same direction, before and after."""
    width, height = size
    camera = PinholeCamera(width, height, 150.0, 151.0, 60.3, 50.1)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    direction = 0.2, -0.11
    at = camera.cx + camera.fx * direction[0], camera.cy + camera.fy * direction[1]
    light = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 6.0**2))
    image = np.clip(255 * light ** (1 / 2.4), 0, 255).astype(np.uint8)
    plane = decimate(Plane(image, 1.0, camera=camera), factor)
    assert plane.image.shape == (height // factor, width // factor)
    small = plane.camera
    assert (small.width, small.height) == plane.image.shape[::-1]
    power = (plane.image / 255.0) ** 2.4
    v, u = np.indices(power.shape)
    found = (power * u).sum() / power.sum(), (power * v).sum() / power.sum()
    expected = small.cx + small.fx * direction[0], small.cy + small.fy * direction[1]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_decimation_keeps_lens_distortion():
    output = replace(CAMERA, fx=140.0, fy=141.0)
    calibration = CameraCalibration(CAMERA, distortion=(-0.3, 0.1, 0, 0, 0), rectified=output)
    plane = decimate(Plane(scene(), 1.0, 0, output, 0, calibration), 2)
    assert plane.camera == output.resized(64, 48) == plane.calibration.output
    x, y = source_coordinates(calibration, output)
    small_x, small_y = source_coordinates(plane.calibration, plane.camera)
    # A downsampled pixel is at the mean position of its four pixels, up to curvature.
    for large, small in ((x, small_x), (y, small_y)):
        means = large.reshape(48, 2, 64, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(2.0 * small + 0.5, means, atol=0.02)


def test_decimation_equals_a_camera_with_fewer_pixels():
    stack = make_stack()
    few = replace(
        stack,
        planes=tuple(
            replace(p, image=downsample(p.image, (64, 48)), camera=p.camera.resized(64, 48))
            for p in stack.planes
        ),
    )
    found = estimator(decimation=2).estimate(stack, EVERYTHING)
    expected = estimator().estimate(few, EVERYTHING)
    assert found.camera == expected.camera == CAMERA.resized(64, 48)
    assert found.depth.shape == (48, 64) and np.isfinite(found.depth).any()
    for product in ('depth', 'sigma', 'confidence', 'all_in_focus', 'points'):
        np.testing.assert_array_equal(getattr(found, product), getattr(expected, product))


@pytest.mark.parametrize(
    'lens',
    [
        {'kappa': 0.27},
        {'lens': Lens(0.016, 1.4, 1.125e-5)},
    ],
)
def test_sigma_floor_follows_the_larger_pixels(lens):
    full, half = EstimatorSettings(**lens), EstimatorSettings(**lens, decimation=2)
    assert half.sigma_floor == pytest.approx(2.0 * full.sigma_floor)
    kappa = lens.get('kappa') or lens['lens'].kappa()
    assert full.sigma_floor == pytest.approx(BLUR_ERROR / kappa)


def test_motion_is_reported_in_pixels_before_decimation():
    stack = make_stack(shape=(240, 320, 3))
    moved = list(stack.planes)
    moved[0] = replace(moved[0], image=np.roll(moved[0].image, 6, axis=1), camera=None)
    moved = replace(stack, planes=tuple(replace(plane, camera=None) for plane in moved))
    result = estimator(decimation=2).estimate(moved)
    assert result.alignment.max_displacement_px == pytest.approx(6.0, abs=0.3)
    np.testing.assert_allclose(result.alignment.transforms[0][:2, 2], [6.0, 0.0], atol=0.4)
    assert result.moved(5.0) and not result.moved(7.0)


def test_rejects_a_decimation_factor_below_one():
    with pytest.raises(ValueError, match='decimation must be at least 1, got 0'):
        EstimatorSettings(decimation=0)


def test_factor_larger_than_the_image_leaves_one_pixel():
    plane = Plane(np.zeros((3, 5, 3), np.uint8), 1.0, camera=PinholeCamera(5, 3, 5, 5, 2, 1))
    small = decimate(plane, 8)
    assert small.image.shape == (1, 1, 3) and (small.camera.width, small.camera.height) == (1, 1)
