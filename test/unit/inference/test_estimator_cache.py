# SPDX-License-Identifier: Apache-2.0
"""Caching and prefetching: fewer encodings, the same bytes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dualfocus_ros.alignment import shift_scale
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference import estimator_cache
from dualfocus_ros.inference.decimation import downsample
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.estimator_cache import EstimatorCache, PlaneCache
from dualfocus_ros.inference.network_runner import NetworkRunner
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_analysis import analyze_stack

EVERYTHING = OutputRequest(sigma=True, confidence=True, all_in_focus=True, points=True)
CAMERA = PinholeCamera(64, 48, 80.0, 80.0, 31.5, 23.5)
LENS = Lens(0.016, 1.4, 1.125e-5)
FOCUS = (0.2, 0.8, 1.4, 2.0)
KEY = 'geometry', 1.0


@pytest.fixture
def encodings(monkeypatch):
    """Record each encoding of a plane."""
    calls = []
    encode = NetworkRunner.encode
    monkeypatch.setattr(NetworkRunner, 'encode', lambda *args: calls.append(1) or encode(*args))
    return calls


@pytest.fixture
def downsamplings(monkeypatch):
    """Record each downsampling of an image."""
    calls = []
    monkeypatch.setattr(
        estimator_cache, 'downsample', lambda *args: calls.append(1) or downsample(*args)
    )
    return calls


def planes_of(seed, focus=FOCUS):
    """Return different images of one scene at rest."""
    scene = np.random.default_rng(0).integers(20, 230, (48, 64, 3))
    rng = np.random.default_rng(seed)
    images = [(scene + rng.integers(-1, 2, scene.shape)).astype(np.uint8) for _ in focus]
    return [Plane(i, q, n * 10**8, CAMERA) for n, (i, q) in enumerate(zip(images, focus))]


def dimmed(planes, factors):
    """Return planes whose sRGB codes are multiplied by these factors."""
    return [
        replace(plane, image=(plane.image * factor).astype(np.uint8))
        for plane, factor in zip(planes, factors, strict=True)
    ]


def stack_of(planes):
    return FocalStack(tuple(planes), frame_id='optical')


def same(one, other, names=('depth', 'sigma', 'confidence', 'all_in_focus')):
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


def fresh(weights, settings):
    return DepthEstimator(weights, device='cpu', threads=1, settings=settings)


@pytest.mark.parametrize(
    'settings',
    # These images do not breathe: the model's correction would look like motion.
    [
        EstimatorSettings(),
        EstimatorSettings(breathing='thin_lens', lens=LENS, alignment='off'),
        EstimatorSettings(alignment='off', decimation=2),
    ],
    ids=['still', 'breathing', 'decimated'],
)
def test_prefetched_planes_give_the_same_depth(estimator, weights, settings, encodings):
    estimator.settings = settings
    estimator.estimate(stack_of(planes_of(1)), EVERYTHING)
    second = planes_of(2)
    assert all(estimator.prefetch(plane) for plane in second[:-1])
    encodings.clear()
    found = estimator.estimate(stack_of(second), EVERYTHING)
    assert len(encodings) == 1
    assert same(found, fresh(weights, settings).estimate(stack_of(second), EVERYTHING))


def test_noise_of_the_focus_sensor_keeps_prefetched_planes(estimator, weights, encodings):
    estimator.settings = EstimatorSettings(breathing='thin_lens', lens=LENS, alignment='off')
    rng = np.random.default_rng(4)
    stacks = [planes_of(seed, FOCUS + rng.normal(0.0, 1e-3, len(FOCUS))) for seed in range(20)]
    estimator.estimate(stack_of(stacks[0]))
    encodings.clear()
    for planes in stacks[1:]:
        assert all(estimator.prefetch(plane) for plane in planes[:-1])
        found = estimator.estimate(stack_of(planes), EVERYTHING)
    assert 4 * 19 <= len(encodings) < 4 * 19 + 19
    alone = fresh(weights, estimator.settings)
    assert same(found, alone.estimate(stack_of(stacks[-1]), EVERYTHING))


def test_planes_darker_in_each_sweep_are_prefetched(estimator, weights, encodings):
    factors = (0.7, 0.8, 0.9, 1.0)
    estimator.settings = EstimatorSettings(alignment='off')
    first = estimator.estimate(stack_of(dimmed(planes_of(1), factors)), EVERYTHING)
    assert first.gains.min() == 1.0 and first.gains.max() > 1.5
    second = dimmed(planes_of(2), factors)
    assert all(estimator.prefetch(plane) for plane in second[:-1])
    encodings.clear()
    found = estimator.estimate(stack_of(second), EVERYTHING)
    assert len(encodings) == 1
    # Noise changes measured gains, but not the rounded ones.
    assert (found.gains == first.gains).all()
    alone = fresh(weights, estimator.settings)
    assert same(found, alone.estimate(stack_of(second), EVERYTHING))


def test_planes_of_changed_brightness_are_encoded_again(estimator, encodings):
    estimator.settings = EstimatorSettings(alignment='off')
    estimator.estimate(stack_of(planes_of(1)))
    second = dimmed(planes_of(2), (0.7, 0.7, 1.0, 1.0))
    for plane in second:
        estimator.prefetch(plane)
    encodings.clear()
    found = estimator.estimate(stack_of(second))
    assert len(encodings) == 2
    assert (found.gains[:2] > 1.5).all() and (found.gains[2:] == 1.0).all()


def test_planes_of_changed_geometry_are_encoded_again(estimator, weights, encodings):
    estimator.settings = EstimatorSettings(breathing='thin_lens', lens=LENS)
    estimator.estimate(stack_of(planes_of(1)))
    second = planes_of(2, focus=(0.2, 0.8, 1.4, 8.0))
    for plane in second[:-1]:
        estimator.prefetch(plane)
    encodings.clear()
    found = estimator.estimate(stack_of(second), EVERYTHING)
    # The reference plane is focused nearer than before: the image scale of all others changes.
    assert len(encodings) == 4
    alone = fresh(weights, estimator.settings)
    assert same(found, alone.estimate(stack_of(second), EVERYTHING))


def test_no_prefetch_before_the_first_stack_or_of_other_sizes(estimator):
    planes = planes_of(1)
    assert not estimator.prefetch(planes[0])
    estimator.estimate(stack_of(planes))
    other = Plane(np.zeros((24, 32, 3), np.uint8), 1.0)
    assert not estimator.prefetch(other)
    assert estimator.prefetch(planes_of(2)[0])


def test_sliding_stacks_encode_the_new_plane_only(estimator, weights, encodings):
    planes = planes_of(1)
    newer = planes_of(2)
    counts = []
    for step in range(4):
        planes[step] = replace(newer[step], stamp_ns=(4 + step) * 10**8)
        encodings.clear()
        found = estimator.estimate(stack_of(planes), EVERYTHING)
        counts.append(len(encodings))
    # The overlap of stacks is known from the second on.
    assert counts == [4, 4, 1, 1]
    assert estimator.cached_planes == 4
    alone = fresh(weights, EstimatorSettings())
    assert same(found, alone.estimate(stack_of(planes), EVERYTHING))


@pytest.mark.parametrize('factor', [1, 2])
def test_separate_sweeps_leave_the_cache_empty(factor):
    cache = EstimatorCache()
    settings = EstimatorSettings(decimation=factor)
    for seed in range(3):
        full_size = stack_of(planes_of(seed))
        for plane in full_size.planes[:-1]:
            plane = cache.decimate(plane, factor)
            prediction = cache.predict(plane, settings)
            assert (prediction is None) == (seed == 0)
            if prediction is not None:
                cache.analyze(plane, prediction[0], settings)
                cache.register_ahead()
        stack = cache.decimate_stack(full_size, factor)
        analysis = analyze_stack(stack, settings, cache)
        assert len(cache) > 0
        cache.finish(stack, full_size, analysis.reference, analysis.gains)
        assert len(cache) == 0


def test_planes_are_analyzed_and_registered_once(estimator, monkeypatch):
    analyzed, registered = [], []
    analyze, optimise = estimator_cache.analyze_plane, shift_scale.minimise_difference
    monkeypatch.setattr(
        estimator_cache,
        'analyze_plane',
        lambda p, *a: analyzed.append(p.focus_dioptres) or analyze(p, *a),
    )
    monkeypatch.setattr(
        shift_scale,
        'minimise_difference',
        lambda *a, **k: registered.append(1) or optimise(*a, **k),
    )
    estimator.estimate(stack_of(planes_of(1)))
    whole_stack = len(registered)
    assert whole_stack >= 3 and len(analyzed) == 4

    # Prefetching analyzed and registered all planes but the last.
    second = planes_of(2)
    for plane in second[:-1]:
        estimator.prefetch(plane)
    analyzed.clear()
    registered.clear()
    found = estimator.estimate(stack_of(second))
    assert analyzed == [FOCUS[-1]]
    assert 0 < len(registered) < whole_stack
    assert found.alignment.failed == ()

    # Overlapping stacks share all planes but the new one.
    estimator.estimate(stack_of(second))
    analyzed.clear()
    estimator.estimate(stack_of([planes_of(3)[0], *second[1:]]))
    assert analyzed == [FOCUS[0]]

    # Alignment that is switched on later needs another analysis.
    estimator.settings = EstimatorSettings(alignment='off', normalise_exposure=False)
    third = planes_of(4)
    for _ in range(2):
        estimator.estimate(stack_of(third))
    estimator.settings = EstimatorSettings()
    assert estimator.estimate(stack_of(third)).alignment is not None


def test_planes_are_downsampled_once(estimator, downsamplings, encodings):
    estimator.settings = EstimatorSettings(alignment='off', decimation=2)
    estimator.estimate(stack_of(planes_of(1)))
    downsamplings.clear()
    second = planes_of(2)
    assert all(estimator.prefetch(plane) for plane in second)
    encodings.clear()
    estimator.estimate(stack_of(second))
    assert len(downsamplings) == 4 and not encodings


def test_another_factor_downsamples_again(downsamplings):
    cache, plane = EstimatorCache(), planes_of(1)[0]
    for factor in (2, 2, 3, 3, 1):
        assert cache.decimate(plane, factor).image.shape[1] == 64 // factor
    assert len(downsamplings) == 2


@pytest.mark.parametrize('factor', [1, 2])
def test_reused_image_buffers_give_depth_of_their_new_content(estimator, weights, factor):
    estimator.settings = EstimatorSettings(decimation=factor)
    buffers = planes_of(0)
    for seed in range(4):
        for buffer, plane in zip(buffers, planes_of(seed), strict=True):
            buffer.image[:] = plane.image
        found = estimator.estimate(stack_of(buffers), EVERYTHING)
    alone = fresh(weights, estimator.settings)
    assert same(found, alone.estimate(stack_of(planes_of(3)), EVERYTHING))


class Stream:
    """Planes of a moving, breathing camera with automatic exposure and a noisy focus sensor."""

    def __init__(self, height=120, width=160):
        rng = np.random.default_rng(7)
        self._size = width, height
        self._camera = PinholeCamera(width, height, 200.0, 200.0, width / 2, height / 2)
        self._rng = rng
        scene = np.zeros((height + 80, width + 80, 3), np.float32)
        for size in (12, 40, 90):
            noise = rng.uniform(-55, 55, (size, size, 3)).astype(np.float32)
            scene += cv2.resize(noise, scene.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        self._scene = np.clip(scene + 120, 0, 255)

    def sweep(self, shift=(0.0, 0.0), dim=0.0, breathing=True):
        """Return planes from far to near; ``shift`` and ``dim`` per plane."""
        planes = []
        for index, nominal in enumerate(FOCUS):
            focus = nominal + self._rng.normal(0.0, 1e-3)
            scale = LENS.magnification(focus, FOCUS[-1]) if breathing else 1.0
            width, height = self._size
            centre = np.array(self._size) / 2
            offset = 40 + centre - (centre + np.array(shift) * index) / scale
            matrix = np.array([[1 / scale, 0.0, offset[0]], [0.0, 1 / scale, offset[1]]])
            blurred = cv2.GaussianBlur(self._scene, (0, 0), 0.4 + 0.8 * abs(focus - 1.0))
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = cv2.warpAffine(blurred, matrix, (width, height), flags=flags)
            image = image * (1.0 - dim * index) + self._rng.normal(0.0, 1.0, image.shape)
            image = np.clip(image, 0, 255).astype(np.uint8)
            planes.append(Plane(image, focus, camera=self._camera))
        return planes


def stream_of_stacks():
    """Return stacks of separate sweeps and of a sliding window over all of them."""
    stream = Stream()
    sweeps = [
        stream.sweep(),
        stream.sweep(dim=0.004),
        stream.sweep(dim=0.05),
        stream.sweep(shift=(1.5, -1.0)),
        stream.sweep(breathing=False),
        stream.sweep(),
    ]
    frames = [plane for sweep in sweeps for plane in sweep]
    return [FocalStack(tuple(frames[n : n + 4])) for n in range(0, len(frames) - 3, 2)]


@pytest.mark.parametrize(
    'settings',
    [
        EstimatorSettings(breathing='thin_lens', lens=LENS),
        EstimatorSettings(field_curvature=(0.2, 0.0)),
        EstimatorSettings(breathing='thin_lens', lens=LENS, alignment='off', decimation=2),
    ],
    ids=['breathing model', 'intrinsics of each image', 'decimated'],
)
def test_depth_does_not_depend_on_earlier_stacks(weights, settings):
    stacks = stream_of_stacks()
    request = OutputRequest(sigma=True)
    alone = [fresh(weights, settings).estimate(stack, request) for stack in stacks]
    # The stacks differ in motion and gains, so that an order could matter.
    assert len({result.gains.tobytes() for result in alone}) > 2
    if settings.alignment != 'off':
        unmoved = np.tile(np.eye(3), (4, 1, 1))
        moved = [not np.array_equal(r.alignment.transforms, unmoved) for r in alone]
        assert any(moved) and not all(moved)
    rng = np.random.default_rng(1)
    for trial in range(5):
        estimator = fresh(weights, settings)
        if trial % 2:
            estimator.warm_up(planes=2, height=48, width=64)
        count = len(stacks) if trial == 0 else rng.integers(3, len(stacks) + 1)
        order = range(count) if trial < 2 else rng.permutation(len(stacks))[:count]
        for index in order:
            for plane in stacks[index].planes:
                if rng.random() < 0.6 and trial != 3:
                    estimator.prefetch(plane)
            if rng.random() < 0.1:
                estimator.clear_caches()
            found = estimator.estimate(stacks[index], request)
            assert same(found, alone[index], ('depth', 'sigma', 'gains')), (trial, index)


@pytest.fixture
def images():
    return [np.zeros(10, np.uint8) for _ in range(4)]


def result(size=70):
    return np.zeros(size, np.uint8)


def test_limit_counts_results_and_images(images):
    cache = PlaneCache(limit=200)
    assert cache.add(images[0], KEY, result())
    assert cache.add(images[1], KEY, result())
    assert not cache.add(images[2], KEY, result())
    assert cache.nbytes == 160 and cache.get(images[2], KEY) is None
    assert cache.add(images[1], KEY, result(110))
    assert cache.nbytes == 200 and len(cache) == 2


def test_result_needs_the_same_image_and_the_exact_key(images):
    cache = PlaneCache(limit=1000)
    stored = result()
    cache.add(images[0], KEY, stored)
    assert cache.get(images[0], ('geometry', 1.0)) is stored
    assert cache.get(images[0], ('geometry', np.nextafter(1.0, 2.0))) is None
    assert cache.get(images[0].copy(), KEY) is None


def test_new_content_of_the_same_array_needs_a_new_result(images):
    cache = PlaneCache(limit=1000)
    cache.add(images[0], KEY, result())
    images[0] += 1
    assert cache.get(images[0], KEY) is None


def test_result_for_another_key_replaces_the_first(images):
    cache = PlaneCache(limit=1000)
    first = cache.get_or_compute(images[0], 'a', result)
    assert cache.get_or_compute(images[0], 'a', result) is first
    second = cache.get_or_compute(images[0], 'b', result)
    assert second is not first
    assert cache.get(images[0], 'a') is None and cache.values() == [second]


def test_results_beyond_the_limit_are_still_returned(images):
    cache = PlaneCache(limit=50)
    assert cache.get_or_compute(images[0], KEY, result).nbytes == 70
    assert len(cache) == 0


def test_keeps_planes_of_the_next_stack_only(images):
    cache = PlaneCache(limit=1000)
    old, current, upcoming, _ = images
    for image in (old, current, upcoming):
        cache.add(image, KEY, result())
    cache.retire([current])
    assert cache.get(upcoming, KEY) is not None
    assert cache.get(old, KEY) is None and cache.get(current, KEY) is None


def test_keeps_planes_of_overlapping_stacks(images):
    cache = PlaneCache(limit=1000)
    for stack in (images[:3], images[1:]):
        for image in stack:
            cache.get_or_compute(image, KEY, result)
        cache.retire(stack)
    assert len(cache) == 3
    assert all(cache.get(image, KEY) is not None for image in images[1:])
    cache.clear()
    assert len(cache) == cache.nbytes == 0
