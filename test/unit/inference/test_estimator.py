# SPDX-License-Identifier: Apache-2.0
"""Outputs of the estimator: geometry, units, special values."""

from dataclasses import replace
import math

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.depth_resolution import BLUR_ERROR
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration, source_coordinates
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference import cuda_graphs
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.network_runner import NetworkRunner
from dualfocus_ros.inference.postprocessing import flying_pixels
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings

EVERYTHING = OutputRequest(sigma=True, confidence=True, all_in_focus=True, points=True)
LENS = Lens(0.016, 1.4, 1.125e-5)
CAMERA = PinholeCamera(64, 48, 80.0, 80.0, 31.5, 23.5)


def make_stack(focus=(0.2, 0.8, 1.4, 2.0), mono=False, camera=CAMERA, seed=0):
    rng = np.random.default_rng(seed)
    shape = (48, 64) if mono else (48, 64, 3)
    return FocalStack(
        tuple(
            Plane(rng.integers(0, 250, shape, dtype=np.uint8), q, n * 10**8, camera)
            for n, q in enumerate(focus)
        ),
        frame_id='optical',
    )


def test_outputs_have_documented_shapes_and_types(estimator):
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


def test_returns_only_requested_outputs(estimator):
    result = estimator.estimate(make_stack())
    assert result.sigma is None and result.confidence is None
    assert result.all_in_focus is None and result.points is None


def test_aligned_planes_and_probability_keep_the_stack_order(estimator):
    stack = make_stack(focus=(0.8, 2.0, 0.2, 1.4))
    estimator.settings = replace(estimator.settings, normalise_exposure=False, alignment='off')
    result = estimator.estimate(stack, OutputRequest(all_in_focus=True, planes=True))
    assert result.planes.dtype == np.uint8 and result.planes.shape == (4, 48, 64, 3)
    for seen, plane in zip(result.planes, stack.planes, strict=True):
        assert np.array_equal(seen, plane.image)
    assert result.probability.shape == (4, 48, 64)
    assert result.probability.sum(axis=0) == pytest.approx(np.ones((48, 64)), abs=1e-5)
    blended = (result.planes * result.probability[..., None]).sum(axis=0)
    assert np.abs(blended - result.all_in_focus).max() <= 0.51


def test_points_without_colour_or_intrinsics(estimator):
    no_camera = estimator.estimate(make_stack(camera=None), EVERYTHING)
    assert no_camera.points is None and no_camera.camera is None
    estimator.settings = EstimatorSettings(points_color=False)
    plain = estimator.estimate(make_stack(), OutputRequest(points=True))
    assert plain.points is not None and plain.all_in_focus is None


def test_field_curvature_is_added_to_the_inverse_depth(estimator):
    camera = replace(CAMERA, cx=20.0, cy=30.0)
    stack = make_stack(camera=camera)
    flat = EstimatorSettings(edge_filter=0.0)
    estimator.settings = flat
    before = estimator.estimate(stack, OutputRequest(sigma=True))
    for coefficients in ((0.3, 0.0), (0.3, -0.1)):
        estimator.settings = replace(flat, field_curvature=coefficients)
        after = estimator.estimate(stack, OutputRequest(sigma=True))
        v, u = np.mgrid[0:48, 0:64]
        r = np.hypot(u - 20.0, v - 30.0) / 40.0
        added = 1.0 / after.depth - 1.0 / before.depth
        wanted = coefficients[0] * r**2 + coefficients[1] * r**4
        assert np.abs(added - wanted).max() < 1e-5
        # Sigma of the inverse depth is unchanged.
        assert after.sigma / after.depth**2 == pytest.approx(before.sigma / before.depth**2, 1e-4)
    estimator.settings = replace(flat, field_curvature=(0.0, 0.0))
    assert np.array_equal(estimator.estimate(stack).depth, before.depth)


def test_field_curvature_without_intrinsics_is_centred(estimator):
    stack, flat = make_stack(camera=None), EstimatorSettings(edge_filter=0.0)
    estimator.settings = flat
    before = 1.0 / estimator.estimate(stack).depth
    estimator.settings = replace(flat, field_curvature=(0.3, 0.0))
    added = 1.0 / estimator.estimate(stack).depth - before
    assert np.abs(added[23:25, 31:33]).max() < 1e-3
    assert np.abs(added - added[::-1, ::-1]).max() < 1e-5
    assert added[0, 0] == pytest.approx(0.3 * (31.5**2 + 23.5**2) / 40.0**2, rel=1e-3)


def test_limits_follow_rep_117(estimator):
    stack = make_stack()
    plain = estimator.estimate(stack).depth
    middle = float(np.median(plain))
    estimator.settings = EstimatorSettings(depth_min=middle, depth_max=100.0)
    nearer = estimator.estimate(stack, OutputRequest(sigma=True))
    assert np.array_equal(np.isneginf(nearer.depth), plain < middle)
    assert np.isnan(nearer.sigma[np.isneginf(nearer.depth)]).all()
    estimator.settings = EstimatorSettings(depth_min=0.1, depth_max=middle)
    assert np.array_equal(np.isposinf(estimator.estimate(stack).depth), plain > middle)


@pytest.mark.parametrize('side', ['near', 'far'])
def test_depth_beyond_a_lost_end_of_the_sweep_is_infinite(estimator, side, monkeypatch):
    whole = make_stack()
    predictions, decode = [], NetworkRunner.decode

    def spread(*arguments):
        """Make each plane the most probable one somewhere, unlike random weights."""
        found = decode(*arguments)
        shape = found.prediction.probability.shape
        p = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        p = p / p.sum(dim=1, keepdim=True)
        predictions.append(replace(found.prediction, probability=p))
        return replace(found, prediction=predictions[-1])

    monkeypatch.setattr(NetworkRunner, 'decode', spread)
    estimator.settings = EstimatorSettings(edge_filter=0.0)
    free = estimator.estimate(whole, EVERYTHING)
    ends = (0.2, 3.0) if side == 'near' else (-0.3, 2.0)
    held = estimator.estimate(replace(whole, sweep_extent=ends), EVERYTHING)
    # The decoder's planes are sorted from far to near.
    end = len(whole.planes) - 1 if side == 'near' else 0
    beyond = predictions[-1].probability[0].argmax(dim=0).numpy() == end
    assert 0.1 < beyond.mean() < 0.4
    assert np.array_equal(held.depth == (-np.inf if side == 'near' else np.inf), beyond)
    assert np.array_equal(held.depth[~beyond], free.depth[~beyond], equal_nan=True)
    assert np.isnan(held.sigma[beyond]).all() and (held.confidence[beyond] == 0).all()
    assert np.isnan(held.points[beyond][:, :3]).all()


def test_uncertain_pixels_become_nan(estimator):
    stack = make_stack()
    sigma = estimator.estimate(stack, OutputRequest(sigma=True)).sigma
    limit = float(np.median(sigma))
    estimator.settings = EstimatorSettings(max_sigma=limit)
    depth = estimator.estimate(stack).depth
    assert np.array_equal(np.isnan(depth), sigma > limit)


@pytest.mark.parametrize(
    'given',
    [
        {'kappa': 0.27},
        {'lens': LENS},
        {'lens': LENS, 'kappa': 20.0},
    ],
)
def test_sigma_is_at_least_the_error_of_the_optics(estimator, given):
    stack, wanted = make_stack(), OutputRequest(sigma=True, confidence=True)
    free = estimator.estimate(stack, wanted)
    estimator.settings = settings = EstimatorSettings(**given)
    held = estimator.estimate(stack, wanted)
    kappa = given.get('kappa') or given['lens'].kappa()
    assert settings.sigma_floor == pytest.approx(BLUR_ERROR / kappa)
    assert np.array_equal(held.depth, free.depth, equal_nan=True)
    floor = held.depth**2 * BLUR_ERROR / kappa
    np.testing.assert_allclose(held.sigma, np.maximum(free.sigma, floor), rtol=1e-4)
    assert (held.confidence <= free.confidence).all()
    if kappa < 1.0:
        assert (held.sigma > 1.01 * free.sigma).any()
        estimator.settings = replace(settings, max_sigma=float(np.nanmin(held.sigma)))
        assert np.isnan(estimator.estimate(stack).depth).mean() > 0.99


def test_pixels_outside_a_plane_become_nan_in_every_output(estimator):
    estimator.settings = EstimatorSettings(edge_filter=0.0)
    calibration = CameraCalibration(CAMERA, 'plumb_bob', (0.4, 0.0, 0.0, 0.0))
    stack = make_stack()
    distorted = replace(stack.planes[2], calibration=calibration)
    result = estimator.estimate(
        replace(stack, planes=(*stack.planes[:2], distorted, stack.planes[3])), EVERYTHING
    )
    x, y = source_coordinates(calibration, CAMERA)
    unseen = (x < -0.5) | (y < -0.5) | (x > 63.5) | (y > 47.5)
    assert 0.02 < unseen.mean() < 0.3
    assert np.array_equal(np.isnan(result.depth), unseen)
    assert np.array_equal(np.isnan(result.sigma), unseen)
    assert np.array_equal(np.isnan(result.points[..., 0]), unseen)
    assert (result.confidence[unseen] == 0).all()


def test_breathing_beyond_the_image_edge_gives_nan(weights):
    # The image shrinks with nearer focus: the reference plane has the widest view.
    settings = EstimatorSettings(
        breathing='polynomial', breathing_coefficients=(-0.05,), edge_filter=0.0
    )
    estimator = DepthEstimator(weights, device='cpu', threads=1, settings=settings)
    depth = estimator.estimate(make_stack()).depth
    assert np.isnan(depth[0]).all() and np.isnan(depth[:, -1]).all()
    assert np.isfinite(depth[10:-10, 10:-10]).all()


def test_flying_pixels_become_nan(estimator):
    stack = make_stack()
    estimator.settings = EstimatorSettings(edge_filter=0.0)
    everything = estimator.estimate(stack).depth
    estimator.settings = EstimatorSettings(edge_filter=0.002)
    filtered = estimator.estimate(stack).depth
    flying = flying_pixels(torch.from_numpy(1.0 / everything), 0.002).numpy()
    assert 0.0 < flying.mean() < 1.0
    assert (np.isnan(filtered) == flying).mean() > 0.999
    assert np.isnan(estimator.estimate(stack, EVERYTHING).points[flying][:, 2]).mean() > 0.99


def test_sigma_and_colour_are_computed_only_on_request(estimator, monkeypatch):
    def refuse(*arguments):
        raise AssertionError('sigma was computed')

    monkeypatch.setattr(type(estimator.network.module), '_sigma', refuse)
    estimator.settings = EstimatorSettings(points_color=False)
    result = estimator.estimate(make_stack(), OutputRequest(points=True, points_decimated=True))
    assert {'sigma', 'confidence', 'colour'}.isdisjoint(result.stage_ms)
    assert result.points is not None and result.points_decimated is not None
    for outputs in (OutputRequest(sigma=True), OutputRequest(confidence=True)):
        with pytest.raises(AssertionError, match='sigma was computed'):
            estimator.estimate(make_stack(), outputs)


def test_decimated_points_by_stride_and_by_voxel(estimator):
    few = estimator.estimate(make_stack(), OutputRequest(points_decimated=True))
    assert few.points is None
    assert few.points_decimated.shape[0] <= 12 * 16
    whole = estimator.estimate(make_stack(), EVERYTHING).points.reshape(-1, 4)
    assert {p.tobytes() for p in few.points_decimated} <= {p.tobytes() for p in whole}
    estimator.settings = EstimatorSettings(points_voxel_size=0.5)
    cubes = estimator.estimate(make_stack(), OutputRequest(points_decimated=True)).points_decimated
    cells = np.floor(cubes[:, :3] / 0.5 + 1e-4).astype(int)
    assert 0 < len(cubes) < len(few.points_decimated)
    assert len({tuple(cell) for cell in cells}) >= 0.95 * len(cubes)


@pytest.mark.fault(18)
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_release_frees_gpu_memory(weights):
    left = []
    for _ in range(20):
        estimator = DepthEstimator(weights, device='cuda')
        estimator.estimate(make_stack(), EVERYTHING)
        assert estimator.device_memory > 0
        estimator.release()
        del estimator
        left.append(torch.cuda.memory_allocated())
    # Libraries allocate permanent work space in the first round.
    assert left[-1] <= left[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_gpu_depth_equals_cpu_depth_with_and_without_graphs(weights, precision):
    host = DepthEstimator(weights, 'cpu', threads=1).estimate(make_stack(), EVERYTHING)
    for graphs in (False, True):
        device = DepthEstimator(weights, 'cuda', precision, cuda_graphs=graphs)
        # The third call is the first replay.
        results = [device.estimate(make_stack(), EVERYTHING) for _ in range(4)]
        assert device.uses_graphs == graphs
        for result in results:
            change = np.abs(1.0 / result.depth - 1.0 / host.depth)
            assert np.nanmedian(change) < (1e-4 if precision == 'fp32' else 5e-3)
            assert np.isnan(result.depth).mean() == pytest.approx(
                np.isnan(host.depth).mean(), abs=0.01
            )
            assert result.points.shape == host.points.shape


def test_captured_model_gives_the_same_depth(weights, monkeypatch):
    """Graphs on a CPU, with a stand-in for the capture."""

    def capture(function, inputs):
        places = [given.clone() for given in inputs]
        results = function(places)
        outputs = results.with_tensors([tensor.clone() for tensor in results.tensors])

        def replay():
            for place, result in zip(outputs.tensors, function(places).tensors, strict=True):
                place.copy_(result)

        return cuda_graphs.CapturedGraph(places, outputs, replay)

    monkeypatch.setattr(cuda_graphs, 'capture', capture)
    plain = DepthEstimator(weights, 'cpu', threads=1)
    captured = DepthEstimator(weights, 'cpu', threads=1)
    captured.network.graphs.enabled = True
    for count, outputs in ((4, OutputRequest()), (4, EVERYTHING), (3, EVERYTHING)):
        for seed in range(4):
            stack = make_stack((0.2, 0.8, 1.4, 2.0)[:count], seed=seed)
            one, other = plain.estimate(stack, outputs), captured.estimate(stack, outputs)
            np.testing.assert_allclose(other.depth, one.depth, rtol=1e-4)
    assert captured.uses_graphs
    captured.clear_caches()
    assert not captured.uses_graphs


@pytest.mark.fault(11)
def test_non_finite_predictions_become_nan_pixel_by_pixel(estimator, monkeypatch):
    stack, decode = make_stack(), NetworkRunner.decode
    expected = estimator.estimate(stack, EVERYTHING)
    nonsense = torch.tensor([math.nan, math.inf, -math.inf])

    def with_nonsense(*arguments):
        found = decode(*arguments)
        found.prediction.dioptres[0, 5, 10:13] = nonsense
        return found

    monkeypatch.setattr(NetworkRunner, 'decode', with_nonsense)
    estimator.settings = replace(estimator.settings, edge_filter=0.0)
    result = estimator.estimate(stack, EVERYTHING)
    assert np.isnan(result.depth[5, 10:13]).all() and np.isnan(result.sigma[5, 10:13]).all()
    assert (result.confidence[5, 10:13] == 0).all()
    assert np.isnan(result.points[5, 10:13, :3]).all()
    assert np.isnan(result.depth).sum() <= 3 + np.isnan(expected.depth).sum()


@pytest.mark.fault(11)
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_non_finite_network_output_keeps_messages_valid(estimator, value):
    stack = make_stack()
    with torch.no_grad():
        estimator.network.module.logit.bias.fill_(value)
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
    assert np.allclose(found.depth, expected.depth, rtol=1e-4, equal_nan=True)


def test_reference_is_the_nearest_plane_in_any_order(estimator):
    result = estimator.estimate(make_stack(focus=(2.0, 0.2, 1.4, 0.8)))
    assert result.reference == 0


def test_saturation_is_flagged(estimator):
    stack = make_stack()
    assert not estimator.estimate(stack).saturated
    bright = stack.planes[1].image.copy()
    bright[:20] = 255
    planes = (stack.planes[0], replace(stack.planes[1], image=bright), *stack.planes[2:])
    assert estimator.estimate(FocalStack(planes)).saturated


@pytest.mark.parametrize('shipped', [False, True])
def test_half_precision_on_a_cpu_changes_depth_little(weights, shipped):
    stack = make_stack()
    full, half = (
        1.0
        / DepthEstimator('auto' if shipped else weights, 'cpu', precision, 1).estimate(stack).depth
        for precision in ('fp32', 'bf16')
    )
    both = np.isfinite(full) & np.isfinite(half)
    # The images are noise, whose predicted edges become NaN.
    assert both.mean() > 0.3
    # The sweep spans 1.8 dioptres.
    assert np.abs(full - half)[both].mean() < 0.02
    assert not np.array_equal(full[both], half[both])


@pytest.mark.fault(10)
def test_clearing_caches_changes_no_depth(estimator, monkeypatch):
    stack = make_stack()
    before = estimator.estimate(stack).depth
    assert all(estimator.prefetch(plane) for plane in make_stack().planes[:2])
    assert estimator.cached_planes == 2
    estimator.clear_caches()
    assert estimator.cached_planes == 0
    assert np.array_equal(estimator.estimate(stack).depth, before, equal_nan=True)

    def lost(device):
        raise RuntimeError('CUDA error: device-side assert triggered')

    monkeypatch.setattr('dualfocus_ros.inference.estimator.describe_device', lost)
    assert estimator.device_name == 'cpu (1 threads)'
