# SPDX-License-Identifier: Apache-2.0
"""Planes are encoded once, when they arrive or in the stack that they come with first."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualfocus_ros.alignment import shift_scale
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration, ViewMapping
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference import preparation
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.plane_cache import EncodedPlane, PlaneCache
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.models.dualfocus import DualFocus, DualFocusConfig
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.weights import save_model

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)
EVERYTHING = OutputRequest(sigma=True, confidence=True, all_in_focus=True, points=True)
CAMERA = PinholeCamera(64, 48, 80.0, 80.0, 31.5, 23.5)
LENS = Lens(0.016, 1.4, 1.125e-5)
FOCUS = (0.2, 0.8, 1.4, 2.0)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_model(path, DualFocus(SMALL).eval())
    return str(path)


@pytest.fixture
def estimator(weights):
    made = DepthEstimator(weights, device='cpu', threads=1)
    made.encoded = 0
    encode = made._network.encode

    def counted(images):
        made.encoded += len(images)
        return encode(images)

    made._network.encode = counted
    return made


def planes_of(seed, focus=FOCUS):
    """Return planes that are all different and all show the same, at rest."""
    scene = np.random.default_rng(0).integers(20, 230, (48, 64, 3))
    rng = np.random.default_rng(seed)
    images = [(scene + rng.integers(-1, 2, scene.shape)).astype(np.uint8) for _ in focus]
    return [Plane(i, q, n * 10**8, CAMERA) for n, (i, q) in enumerate(zip(images, focus))]


def stack_of(planes):
    return FocalStack(tuple(planes), frame_id='optical')


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ('depth', 'sigma', 'confidence', 'all_in_focus')
    )


@pytest.mark.parametrize(
    'settings',
    # These images do not breathe: the model's correction would look like motion.
    [EstimatorSettings(), EstimatorSettings(breathing='thin_lens', lens=LENS, alignment='off')],
    ids=['still', 'breathing'],
)
def test_planes_encoded_ahead_give_the_same_depth(estimator, weights, settings):
    estimator.settings = settings
    estimator.estimate(stack_of(planes_of(1)), EVERYTHING)
    second = planes_of(2)
    assert all(estimator.prefetch(plane) for plane in second[:-1])
    estimator.encoded = 0
    found = estimator.estimate(stack_of(second), EVERYTHING)
    assert estimator.encoded == 1
    alone = DepthEstimator(weights, device='cpu', threads=1, settings=settings)
    assert same(found, alone.estimate(stack_of(second), EVERYTHING))


def dimmed(planes, codes):
    """Return planes whose images are darker by these factors on their codes."""
    return [
        replace(plane, image=(plane.image * code).astype(np.uint8))
        for plane, code in zip(planes, codes, strict=True)
    ]


def test_planes_that_are_darker_each_time_are_encoded_ahead_too(estimator, weights):
    codes = (0.7, 0.8, 0.9, 1.0)
    estimator.settings = EstimatorSettings(alignment='off')
    first = estimator.estimate(stack_of(dimmed(planes_of(1), codes)), EVERYTHING)
    assert first.gains.min() == 1.0 and first.gains.max() > 1.5
    second = dimmed(planes_of(2), codes)
    assert all(estimator.prefetch(plane) for plane in second[:-1])
    estimator.encoded = 0
    found = estimator.estimate(stack_of(second), EVERYTHING)
    assert estimator.encoded == 1
    # Noise moves what is measured; what is done stays.
    assert (found.gains == first.gains).all()
    # Without anything encoded ahead it comes to the same.
    alone = DepthEstimator(weights, device='cpu', threads=1, settings=estimator.settings)
    for stack in (stack_of(dimmed(planes_of(1), codes)), stack_of(second)):
        result = alone.estimate(stack, EVERYTHING)
    assert same(found, result)


def test_planes_whose_brightness_changed_are_encoded_again(estimator):
    estimator.settings = EstimatorSettings(alignment='off')
    estimator.estimate(stack_of(planes_of(1)))
    second = dimmed(planes_of(2), (0.7, 0.7, 1.0, 1.0))
    for plane in second:
        estimator.prefetch(plane)
    estimator.encoded = 0
    found = estimator.estimate(stack_of(second))
    assert estimator.encoded == 2
    assert (found.gains[:2] > 1.5).all() and (found.gains[2:] == 1.0).all()


def test_nothing_is_foreseen_before_the_first_stack_or_for_another_size(estimator):
    planes = planes_of(1)
    assert not estimator.prefetch(planes[0])
    estimator.estimate(stack_of(planes))
    other = Plane(np.zeros((24, 32, 3), np.uint8), 1.0)
    assert not estimator.prefetch(other)
    assert estimator.prefetch(planes_of(2)[0])


def test_sliding_stacks_encode_the_new_plane_only(estimator, weights):
    planes = planes_of(1)
    newer = planes_of(2)
    encoded = []
    for step in range(4):
        planes[step] = replace(newer[step], stamp_ns=(4 + step) * 10**8)
        estimator.encoded = 0
        found = estimator.estimate(stack_of(planes), EVERYTHING)
        encoded.append(estimator.encoded)
    # That stacks overlap is known from the second on.
    assert encoded == [4, 4, 1, 1]
    assert len(estimator._store) == 4
    alone = DepthEstimator(weights, device='cpu', threads=1)
    assert same(found, alone.estimate(stack_of(planes), EVERYTHING))


def test_whole_sweeps_leave_nothing_behind(estimator):
    for seed in range(3):
        planes = planes_of(seed)
        for plane in planes[:-1]:
            estimator.prefetch(plane)
        estimator.estimate(stack_of(planes))
        assert len(estimator._store) == 0
        assert len(estimator._seen.glances) == len(estimator._seen.pairs) == 0


def test_planes_are_looked_at_once(estimator, monkeypatch):
    glances, refined = [], []
    look, refine = preparation.analyze_plane, shift_scale._gauss_newton
    monkeypatch.setattr(
        preparation, 'analyze_plane', lambda p, *a: glances.append(p.focus_dioptres) or look(p, *a)
    )
    monkeypatch.setattr(
        shift_scale, '_gauss_newton', lambda *a, **k: refined.append(1) or refine(*a, **k)
    )
    estimator.estimate(stack_of(planes_of(1)))
    of_a_stack = len(refined)
    assert of_a_stack >= 3 and len(glances) == 4

    # What came ahead was looked at and registered ahead; the last plane and its pair are left.
    second = planes_of(2)
    for plane in second[:-1]:
        estimator.prefetch(plane)
    glances.clear()
    refined.clear()
    found = estimator.estimate(stack_of(second))
    assert glances == [FOCUS[-1]]
    assert 0 < len(refined) < of_a_stack
    assert found.alignment.failed == ()

    # In sliding mode only the new plane is new.
    estimator.estimate(stack_of(second))
    glances.clear()
    estimator.estimate(stack_of([planes_of(3)[0], *second[1:]]))
    assert glances == [FOCUS[0]]

    # Alignment that is switched on later has its own questions.
    estimator.settings = EstimatorSettings(alignment='off', normalise_exposure=False)
    third = planes_of(4)
    for _ in range(2):
        estimator.estimate(stack_of(third))
    estimator.settings = EstimatorSettings()
    assert estimator.estimate(stack_of(third)).alignment is not None


def test_a_plane_that_is_needed_otherwise_is_encoded_again(estimator, weights):
    estimator.settings = EstimatorSettings(breathing='thin_lens', lens=LENS)
    estimator.estimate(stack_of(planes_of(1)))
    second = planes_of(2, focus=(0.2, 0.8, 1.4, 8.0))
    for plane in second[:-1]:
        estimator.prefetch(plane)
    estimator.encoded = 0
    found = estimator.estimate(stack_of(second), EVERYTHING)
    # The reference plane, focused nearer than before, has another image scale.
    assert estimator.encoded == 4
    alone = DepthEstimator(weights, device='cpu', threads=1, settings=estimator.settings)
    assert same(found, alone.estimate(stack_of(second), EVERYTHING))


def encoded_plane(size=10):
    return EncodedPlane(torch.zeros(size), 1.0, PlaneFeatures(((torch.zeros(size),),)))


def mapping(scale=1.0, **changes):
    return ViewMapping(replace(CameraCalibration(CAMERA.magnified(scale)), **changes), CAMERA)


def test_a_store_has_a_limit():
    store = PlaneCache(limit=200)
    images = [np.zeros(3) for _ in range(3)]
    assert store.add(images[0], mapping(), encoded_plane())
    assert store.add(images[1], mapping(), encoded_plane())
    assert not store.add(images[2], mapping(), encoded_plane())
    assert store.memory == 160 and store.find(images[2], mapping()) is None
    assert store.add(images[1], mapping(), encoded_plane(15))


def test_mappings_are_close_when_no_pixel_moves():
    store = PlaneCache()
    image, plane = np.zeros(3), encoded_plane()
    store.add(image, mapping(), plane)
    # The farthest corner is about 40 pixels from the centre.
    assert store.find(image, mapping(1.001)) is plane
    assert store.find(image, mapping(1.005)) is None
    assert store.find(image, mapping(distortion=(0.1, 0.0, 0.0, 0.0))) is None
    assert store.find(image.copy(), mapping()) is None


def test_planes_of_the_next_stack_stay_and_older_ones_go():
    store = PlaneCache()
    old, mine, next_one = np.zeros(1), np.zeros(1), np.zeros(1)
    for image in (old, mine, next_one):
        store.add(image, mapping(), encoded_plane())
    store.finish([mine])
    assert store.find(next_one, mapping()) is not None
    assert store.find(old, mapping()) is None and store.find(mine, mapping()) is None
