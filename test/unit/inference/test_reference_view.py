# SPDX-License-Identifier: Apache-2.0
"""Camera of the reference plane, and mappings onto it."""

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import NEGLIGIBLE_SHIFT
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.reference_view import reference_view
from dualfocus_ros.inference.settings import EstimatorSettings

CAMERA = PinholeCamera(640, 480, 800.0, 800.0, 319.5, 239.5)
LENS = Lens(0.016, 1.4, 1.125e-5)
THIN_LENS = EstimatorSettings(breathing='thin_lens', lens=LENS)
POLYNOMIAL = EstimatorSettings(
    breathing='polynomial',
    breathing_coefficients=(0.02, -0.001),
    breathing_centre_drift=(1e-3, -2e-3),
)


def stack_of(focus, cameras):
    image = np.zeros((480, 640), np.uint8)
    return FocalStack(
        tuple(Plane(image, q, camera=camera) for q, camera in zip(focus, cameras, strict=True))
    )


def test_reference_camera_is_derived_from_another_plane():
    view = reference_view(stack_of((0.2, 2.0), (CAMERA, None)), THIN_LENS)
    assert view.calibrated
    assert view.output.fx == pytest.approx(CAMERA.fx * LENS.magnification(2.0, 0.2))


def test_placeholder_camera_without_intrinsics():
    stack = stack_of((0.2, 2.0), (None, None))
    view = reference_view(stack, EstimatorSettings())
    assert not view.calibrated
    assert view.mapping(stack.planes[0], EstimatorSettings()).view.camera == view.output


def test_intrinsics_of_each_image_are_used_unchanged():
    far = CAMERA.magnified(0.97)
    stack = stack_of((0.2, 2.0), (far, CAMERA))
    view = reference_view(stack, EstimatorSettings())
    assert view.output == CAMERA
    assert view.mapping(stack.planes[0], EstimatorSettings()).view.camera == far


@pytest.mark.parametrize('settings', [THIN_LENS, POLYNOMIAL], ids=['thin_lens', 'polynomial'])
def test_rounding_moves_no_pixel_noticeably(settings):
    for focus in np.linspace(0.0, 3.0, 50):
        stack = stack_of((focus, 3.1), (CAMERA, CAMERA))
        camera = reference_view(stack, settings).mapping(stack.planes[0], settings).view.camera
        scale = settings.image_scale(focus) / settings.image_scale(3.1)
        shift = 640 * np.array(settings.centre_shift(focus - 3.1))
        corners = np.array([[0.0, 0.0], [639.0, 479.0]]) - (CAMERA.cx, CAMERA.cy)
        exact = corners * scale + shift
        rounded = corners * camera.fx / CAMERA.fx + (camera.cx - CAMERA.cx, camera.cy - CAMERA.cy)
        assert np.abs(rounded - exact).max() <= NEGLIGIBLE_SHIFT


@pytest.mark.parametrize('settings', [THIN_LENS, POLYNOMIAL], ids=['thin_lens', 'polynomial'])
def test_mappings_are_equal_for_noisy_focus(settings):
    rng = np.random.default_rng(3)
    mappings = set()
    for _ in range(100):
        focus = [q + rng.normal(0.0, 3e-4) for q in (0.5, 2.0)]
        stack = stack_of(focus, (CAMERA, CAMERA))
        mappings.add(reference_view(stack, settings).mapping(stack.planes[0], settings))
    assert len(mappings) <= 4
