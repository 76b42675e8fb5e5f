# SPDX-License-Identifier: Apache-2.0
"""Alignment by shift and scale, against known motion."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.alignment import shift_scale
from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.alignment.shift_scale import PairCache, RegistrationImage

HEIGHT, WIDTH = 240, 320
FOCUS = np.array([0.3, 0.9, 1.7, 2.5])
REFERENCE = 3
FACTOR = 0.5  # scale of these images against the planes


def texture(seed=3):
    """Return detail at every scale, larger than the images cut from it."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((HEIGHT + 100, WIDTH + 100), np.float32)
    for size, weight in ((5, 50), (20, 40), (80, 30), (220, 25)):
        noise = rng.standard_normal((size, size)).astype(np.float32)
        scene += weight * cv2.resize(noise, scene.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 0.6 * scene, 0, 255)


def plane(scene, shift=(0.0, 0.0), scale=1.0, blur=0.0, noise=1.0, seed=0):
    """Return the scene moved by ``shift`` and scaled about the centre, blurred, with noise."""
    if blur:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    centre = (0.5 * (WIDTH - 1), 0.5 * (HEIGHT - 1))
    matrix = np.array(
        [
            [1 / scale, 0.0, 50 + centre[0] - (centre[0] + shift[0]) / scale],
            [0.0, 1 / scale, 50 + centre[1] - (centre[1] + shift[1]) / scale],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(scene, matrix, (WIDTH, HEIGHT), flags=flags)
    return (moved + np.random.default_rng(seed).normal(0, noise, moved.shape)).astype(np.float32)


def stack(shifts, scales=(1.0,) * 4, blurs=(2.5, 1.8, 1.0, 0.5), scene=None):
    scene = texture() if scene is None else scene
    return [
        plane(scene, shift, scale, blur, seed=n)
        for n, (shift, scale, blur) in enumerate(zip(shifts, scales, blurs, strict=True))
    ]


def errors(motion, shifts, scales=(1.0,) * 4):
    """Return the root mean square error of each plane over the image, in pixels of the planes."""
    y, x = np.mgrid[0 : 2 * HEIGHT : 20, 0 : 2 * WIDTH : 20].astype(float)
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    centre = np.array([WIDTH - 0.5, HEIGHT - 0.5])[:, None]
    found = []
    for transform, shift, scale in zip(motion.transforms, shifts, scales, strict=True):
        true = (points[:2] - centre) * scale + centre + np.array(shift)[:, None] / FACTOR
        found.append(np.sqrt(np.mean(np.sum(((transform @ points)[:2] - true) ** 2, axis=0))))
    return np.array(found)


def prepare(images, scale=FACTOR) -> list[RegistrationImage]:
    return [RegistrationImage.from_grey(image, scale) for image in images]


def estimated(images, focus=FOCUS, reference=REFERENCE) -> Alignment:
    return align(prepare(images), focus, model='shift_scale', reference=reference)


SHIFTS = [(1.3, -0.8), (-2.1, 0.4), (0.6, 1.9), (0.0, 0.0)]


def test_finds_shifts_between_differently_focused_planes():
    motion = estimated(stack(SHIFTS))
    assert errors(motion, SHIFTS).max() < 0.15
    expected = 2.0 * np.linalg.norm(SHIFTS, axis=1)
    np.testing.assert_allclose(motion.displacement_px, expected, atol=0.15)
    assert motion.max_displacement_px == pytest.approx(expected.max(), abs=0.15)
    assert motion.failed == ()


def test_finds_scale_beyond_the_effect_of_defocus():
    scales = (1.03, 1.018, 1.008, 1.0)
    motion = estimated(stack(SHIFTS, scales))
    assert errors(motion, SHIFTS, scales).max() < 0.3


def test_order_of_the_planes_does_not_matter():
    order = [3, 0, 2, 1]
    images = stack(SHIFTS)
    motion = estimated([images[n] for n in order], FOCUS[order], 0)
    assert errors(motion, [SHIFTS[n] for n in order]).max() < 0.15


def test_finds_a_jerk_beyond_the_reach_of_small_steps():
    shifts = [(24.0, -15.0), (24.5, -15.5), (0.5, 0.5), (0.0, 0.0)]
    motion = estimated(stack(shifts))
    assert errors(motion, shifts).max() < 0.3


def test_different_blur_is_no_motion():
    motion = estimated(stack([(0.0, 0.0)] * 4, blurs=(4.0, 0.5, 3.0, 0.5)))
    assert np.array_equal(motion.transforms, np.tile(np.eye(3), (4, 1, 1)))
    assert motion.max_displacement_px < 0.26


def test_blur_of_a_near_edge_is_no_zoom():
    """The rim of a near disc grows and shrinks with its blur; nothing has moved."""
    behind, near = texture(5), texture(6)
    y, x = np.mgrid[0 : HEIGHT + 100, 0 : WIDTH + 100]
    disc = (np.hypot(x - 210, y - 170) < 70).astype(np.float32)
    images = []
    for q, seed in zip(FOCUS, range(4), strict=True):
        far_blur, near_blur = 0.5 + 2.0 * abs(q - 0.3), 0.5 + 2.0 * abs(q - 2.5)
        cover = cv2.GaussianBlur(disc, (0, 0), near_blur)
        front = cv2.GaussianBlur(near * disc, (0, 0), near_blur)
        images.append(
            plane(front + (1 - cover) * cv2.GaussianBlur(behind, (0, 0), far_blur), seed=seed)
        )
    motion = estimated(images)
    assert errors(motion, [(0.0, 0.0)] * 4).max() < 0.5


@pytest.mark.parametrize('noise', [0.0, 3.0])
def test_planes_without_texture_fail(noise):
    flat = [plane(np.full((340, 420), 128, np.float32), noise=noise, seed=n) for n in range(4)]
    motion = estimated(flat)
    assert motion.failed == (0, 1, 2)
    assert np.isnan(motion.max_displacement_px)
    assert np.array_equal(motion.transforms, np.tile(np.eye(3), (4, 1, 1)))


def test_a_plane_with_other_content_fails_alone():
    images = stack(SHIFTS)
    images[1] = plane(texture(99), noise=1.0)
    motion = estimated(images)
    assert motion.failed == (1,)
    assert np.array_equal(motion.transforms[1], np.eye(3))
    assert np.delete(errors(motion, SHIFTS), 1).max() < 0.2


def test_brightness_and_contrast_do_not_matter():
    images = stack(SHIFTS)
    images[0] = 0.6 * images[0] + 20.0
    assert errors(estimated(images), SHIFTS).max() < 0.2


@pytest.fixture
def refinements(monkeypatch):
    """Record each optimisation of a pair."""
    calls = []
    optimise = shift_scale.minimise_difference
    monkeypatch.setattr(
        shift_scale, 'minimise_difference', lambda *a, **k: calls.append(1) or optimise(*a, **k)
    )
    return calls


def test_overlapping_stacks_share_pairs(refinements):
    images = prepare(stack(SHIFTS))
    pairs = PairCache()

    def aligned(images):
        return align(images, FOCUS, model='shift_scale', reference=REFERENCE, pairs=pairs)

    first = aligned(images)
    assert len(refinements) == 9 and len(pairs) == 6  # coarse, fine and scale of three pairs
    again = aligned(images)
    assert len(refinements) == 9
    assert np.array_equal(first.transforms, again.transforms)

    newer = [*prepare(stack(SHIFTS)[:1]), *images[1:]]
    aligned(newer)
    assert len(refinements) == 12  # the one pair with the new plane
    pairs.retain(newer)
    assert len(pairs) == 6


@pytest.mark.parametrize('scales', [(1.0,) * 4, (1.03, 1.018, 1.008, 1.0)])
def test_cached_pairs_of_other_stacks_change_no_bit(refinements, scales):
    images = prepare(stack(SHIFTS, scales))
    pairs = PairCache()
    # The same planes with another reference, then without one between the others.
    for kept, reference in (([0, 1, 2], 2), ([0, 2, 3], 2), ([3, 2, 1, 0], 3)):
        align(
            [images[n] for n in kept],
            FOCUS[kept],
            model='shift_scale',
            reference=reference,
            pairs=pairs,
        )
    refinements.clear()
    found = align(images, FOCUS, model='shift_scale', reference=REFERENCE, pairs=pairs)
    shared = len(refinements)
    alone = align(images, FOCUS, model='shift_scale', reference=REFERENCE)
    assert np.array_equal(found.transforms, alone.transforms)
    assert np.array_equal(found.displacement_px, alone.displacement_px)
    # Half of the pairs, registered before from the other side, are of no use.
    assert shared < len(refinements) - shared


def test_planes_need_no_preparation():
    images = [np.clip(image, 0, 255).astype(np.uint8) for image in stack(SHIFTS)]
    larger = [cv2.resize(image, None, fx=2, fy=2) for image in images]
    motion = align(larger, FOCUS, model='shift_scale')
    assert motion.reference == REFERENCE
    assert errors(motion, SHIFTS).max() < 0.3
