# SPDX-License-Identifier: Apache-2.0
"""Estimation of a photographed stack: alignment, downscaling, invalid pixels."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_estimation import UNLIMITED, estimate_stack

SIZE = (96, 128)
LENS = Lens(0.0068, 1.85, 1.4e-6)


class FakeEstimator:
    """Records the settings and the stack of an estimate; depth is 1 m."""

    def __init__(self):
        self.settings = EstimatorSettings()
        self.used = None

    def estimate(self, stack, request):
        self.used = self.settings, stack
        ones = np.ones(stack.size, np.float32)
        return DepthResult(
            depth=ones,
            focus_dioptres=stack.focus_dioptres,
            reference=stack.reference,
            sigma=ones.copy(),
        )


@pytest.fixture
def stack():
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8), (0, 0), 1.5)
    shifted = np.roll(image, 3, axis=1)
    return FocalStack((Plane(image, 2.0), Plane(shifted, 1.0)))


def test_alignment_masks_uncovered_pixels(stack):
    estimator = FakeEstimator()
    settings = replace(UNLIMITED, breathing='thin_lens', lens=LENS, alignment='correct')
    estimate = estimate_stack(estimator, stack, OutputRequest(sigma=True), settings)
    used, aligned = estimator.used
    assert (used.breathing, used.alignment, used.lens) == ('none', 'off', LENS)
    assert estimate.alignment is not None
    middle = slice(20, -20)
    first, second = (plane.image[middle, middle].astype(float) for plane in aligned.planes)
    assert np.abs(first - second).mean() < 6.0
    invalid = np.isnan(estimate.result.depth)
    assert 0.0 < invalid.mean() < 0.2
    assert np.array_equal(invalid, np.isnan(estimate.result.sigma))


def test_without_alignment_the_stack_is_unchanged(stack):
    estimator = FakeEstimator()
    settings = replace(UNLIMITED, breathing='thin_lens', lens=LENS)
    estimate = estimate_stack(estimator, stack, OutputRequest(), settings, align=False)
    assert estimator.used == (settings, stack)
    assert estimate.stack is stack and estimate.alignment is None
    assert np.isfinite(estimate.result.depth).all()


def test_downscaling_scales_the_pixel_pitch(stack):
    estimator = FakeEstimator()
    settings = replace(UNLIMITED, lens=LENS)
    estimate = estimate_stack(
        estimator, stack, OutputRequest(sigma=True), settings, align=False, max_pixels=3072
    )
    used, small = estimator.used
    assert small.size == (48, 64)
    assert used.lens.pixel_pitch == pytest.approx(2.0 * LENS.pixel_pitch)
    assert estimate.result.depth.shape == SIZE
