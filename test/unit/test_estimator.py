# SPDX-License-Identifier: Apache-2.0
"""The pipeline around the network: geometry, units, special values, what is computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualfocus_ros.network.model import DualFocus, DualFocusConfig
from dualfocus_ros.network.weights import save_model
from dualfocus_ros.optics.camera import PinholeCamera
from dualfocus_ros.optics.lens import Lens
from dualfocus_ros.pipeline.device import DeviceError, resolve_device, resolve_precision
from dualfocus_ros.pipeline.estimator import DepthEstimator
from dualfocus_ros.pipeline.geometry import undo_breathing
from dualfocus_ros.pipeline.result import Outputs
from dualfocus_ros.pipeline.settings import PipelineSettings
from dualfocus_ros.stacks.types import FocalStack, Plane

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)
EVERYTHING = Outputs(sigma=True, confidence=True, all_in_focus=True, points=True)
CAMERA = PinholeCamera(64, 48, 80.0, 80.0, 31.5, 23.5)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_model(path, DualFocus(SMALL).eval())
    return str(path)


@pytest.fixture
def estimator(weights):
    return DepthEstimator(weights, device='cpu', threads=1)


def make_stack(focus=(0.2, 0.8, 1.4, 2.0), mono=False, camera=CAMERA):
    rng = np.random.default_rng(0)
    shape = (48, 64) if mono else (48, 64, 3)
    return FocalStack(
        tuple(
            Plane(rng.integers(0, 250, shape, dtype=np.uint8), q, n * 10**8, camera)
            for n, q in enumerate(focus)
        ),
        frame_id='optical',
    )


def test_every_output_has_its_documented_form(estimator):
    result = estimator.estimate(make_stack(), EVERYTHING)
    assert result.depth.shape == (48, 64) and result.depth.dtype == np.float32
    assert result.sigma.shape == (48, 64) and result.sigma.dtype == np.float32
    assert result.confidence.shape == (48, 64) and result.confidence.dtype == np.uint8
    assert result.all_in_focus.shape == (48, 64, 3) and result.all_in_focus.dtype == np.uint8
    assert result.points.shape == (48, 64, 4) and result.points.dtype == np.float32
    assert result.camera == CAMERA
    finite = result.depth[np.isfinite(result.depth)]
    assert len(finite) and finite.min() >= 1 / 2.0 - 1e-4 and finite.max() <= 1 / 0.2 + 1e-3
    assert (result.sigma[np.isfinite(result.depth)] > 0).all()


def test_only_what_is_asked_for_is_returned(estimator):
    result = estimator.estimate(make_stack())
    assert result.sigma is None and result.confidence is None
    assert result.all_in_focus is None and result.points is None


def test_points_without_colour_or_intrinsics(estimator):
    no_camera = estimator.estimate(make_stack(camera=None), EVERYTHING)
    assert no_camera.points is None and no_camera.camera is None
    estimator.settings = PipelineSettings(points_color=False)
    plain = estimator.estimate(make_stack(), Outputs(points=True))
    assert plain.points is not None and plain.all_in_focus is None


def test_limits_follow_rep_117(estimator):
    stack = make_stack()
    plain = estimator.estimate(stack).depth
    middle = float(np.median(plain))
    estimator.settings = PipelineSettings(depth_min=middle, depth_max=100.0)
    nearer = estimator.estimate(stack, Outputs(sigma=True))
    assert np.array_equal(np.isneginf(nearer.depth), plain < middle)
    assert np.isnan(nearer.sigma[np.isneginf(nearer.depth)]).all()
    estimator.settings = PipelineSettings(depth_min=0.1, depth_max=middle)
    assert np.array_equal(np.isposinf(estimator.estimate(stack).depth), plain > middle)


def test_uncertain_pixels_become_nan(estimator):
    stack = make_stack()
    sigma = estimator.estimate(stack, Outputs(sigma=True)).sigma
    limit = float(np.median(sigma))
    estimator.settings = PipelineSettings(max_sigma=limit)
    depth = estimator.estimate(stack).depth
    assert np.array_equal(np.isnan(depth), sigma > limit)


def test_nonsense_from_the_network_is_nan_and_points_stay_valid(estimator):
    stack = make_stack()
    with torch.no_grad():
        estimator._network.refine.logit.bias.fill_(float('nan'))
    result = estimator.estimate(stack, EVERYTHING)
    assert np.isnan(result.depth).all() and np.isnan(result.sigma).all()
    assert (result.confidence == 0).all()
    assert np.isnan(result.points[..., :3]).all()


def test_mono_equals_grey_rgb(estimator):
    mono = make_stack(mono=True)
    rgb = FocalStack(
        tuple(replace(p, image=np.repeat(p.image[..., None], 3, axis=2)) for p in mono.planes)
    )
    found, expected = estimator.estimate(mono), estimator.estimate(rgb)
    assert np.allclose(found.depth, expected.depth, rtol=1e-5)


def test_reference_is_the_nearest_plane_whatever_the_order(estimator):
    result = estimator.estimate(make_stack(focus=(2.0, 0.2, 1.4, 0.8)))
    assert result.reference == 0


def test_camera_of_the_reference_is_derived_when_only_another_plane_has_one(weights):
    lens = Lens(0.016, 1.4, 1.125e-5)
    settings = PipelineSettings(breathing='thin_lens', lens=lens)
    estimator = DepthEstimator(weights, device='cpu', threads=1, settings=settings)
    stack = make_stack(camera=None)
    planes = (replace(stack.planes[0], camera=CAMERA), *stack.planes[1:])
    camera = estimator.estimate(FocalStack(planes)).camera
    assert camera.fx == pytest.approx(CAMERA.fx * lens.magnification(2.0, 0.2))


def test_saturation_is_flagged(estimator):
    stack = make_stack()
    assert not estimator.estimate(stack).saturated
    burnt = stack.planes[1].image.copy()
    burnt[:20] = 255
    planes = (stack.planes[0], replace(stack.planes[1], image=burnt), *stack.planes[2:])
    assert estimator.estimate(FocalStack(planes)).saturated


def smooth_image(x, y):
    return 0.5 + 0.2 * np.sin(x / 7.0) + 0.2 * np.cos(y / 5.0 + x / 11.0)


def test_breathing_is_undone_about_the_principal_point():
    camera = PinholeCamera(160, 120, 200.0, 200.0, 70.0, 65.0)
    y, x = np.mgrid[0:120, 0:160].astype(float)
    scales = [1.0, 1.02, 1.05]
    planes = []
    for scale in scales:
        # A plane of scale m shows at offset r what the reference shows at r * ref / m.
        u = (x - camera.cx) * scales[2] / scale + camera.cx
        v = (y - camera.cy) * scales[2] / scale + camera.cy
        planes.append(smooth_image(u, v))
    images = torch.tensor(np.stack(planes))[:, None].float()
    aligned = undo_breathing(images, scales, reference=2, camera=camera)
    inner = np.s_[8:-8, 8:-8]
    for plane in aligned[:, 0].numpy():
        assert np.abs(plane[inner] - smooth_image(x, y)[inner]).max() < 2e-3
    assert np.abs(planes[0][inner] - smooth_image(x, y)[inner]).max() > 0.05


def test_equal_scales_touch_nothing():
    images = torch.rand(3, 3, 20, 30)
    assert undo_breathing(images, [2.0, 2.0, 2.0], 1, None) is images


def test_unknown_devices_and_precisions_are_refused_in_words():
    with pytest.raises(DeviceError, match='auto, cuda, cuda:N or cpu'):
        resolve_device('gpu')
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match='sees 0 CUDA devices'):
            resolve_device('cuda:0')
    with pytest.raises(DeviceError, match='auto, fp32, fp16, bf16'):
        resolve_precision('half', torch.device('cpu'))
    with pytest.raises(DeviceError, match='is for CUDA'):
        resolve_precision('fp16', torch.device('cpu'))


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'depth_min': 3.0, 'depth_max': 2.0}, 'below depth.max'),
        ({'max_sigma': -1.0}, 'depth.max_sigma'),
        ({'breathing': 'magic'}, 'none, thin_lens, polynomial'),
        ({'breathing': 'thin_lens'}, 'lens.focal_length'),
        ({'breathing': 'polynomial'}, 'breathing.coefficients'),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        PipelineSettings(**values)
