# SPDX-License-Identifier: Apache-2.0
"""Residual motion of the planes, against motion that is known."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.alignment import plane_motion as motions
from dualfocus_ros.alignment.plane_motion import Motion, PairCache, RegistrationImage

HEIGHT, WIDTH = 240, 320
FOCUS = np.array([0.3, 0.9, 1.7, 2.5])
REFERENCE = 3
FACTOR = 0.5  # of these images to the planes that they stand for


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


def estimated(images, focus, reference, factor, known=None) -> Motion:
    looks = [RegistrationImage.at(image) for image in images]
    return motions.estimate_motion(looks, focus, reference, factor, known)


SHIFTS = [(1.3, -0.8), (-2.1, 0.4), (0.6, 1.9), (0.0, 0.0)]


def test_shifts_are_found_whatever_the_focus():
    motion = estimated(stack(SHIFTS), FOCUS, REFERENCE, FACTOR)
    assert errors(motion, SHIFTS).max() < 0.15
    expected = 2.0 * np.linalg.norm(SHIFTS, axis=1)
    np.testing.assert_allclose(motion.pixels, expected, atol=0.15)
    assert motion.largest == pytest.approx(expected.max(), abs=0.15)
    assert motion.failed == ()


def test_scale_is_found_where_it_is_more_than_defocus_pretends():
    scales = (1.03, 1.018, 1.008, 1.0)
    motion = estimated(stack(SHIFTS, scales), FOCUS, REFERENCE, FACTOR)
    assert errors(motion, SHIFTS, scales).max() < 0.3


def test_order_of_the_planes_does_not_matter():
    order = [3, 0, 2, 1]
    images = stack(SHIFTS)
    motion = estimated([images[n] for n in order], FOCUS[order], 0, FACTOR)
    assert errors(motion, [SHIFTS[n] for n in order]).max() < 0.15


def test_a_jerk_beyond_the_reach_of_small_steps():
    shifts = [(24.0, -15.0), (24.5, -15.5), (0.5, 0.5), (0.0, 0.0)]
    motion = estimated(stack(shifts), FOCUS, REFERENCE, FACTOR)
    assert errors(motion, shifts).max() < 0.3


def test_different_blur_is_no_motion():
    motion = estimated(
        stack([(0.0, 0.0)] * 4, blurs=(4.0, 0.5, 3.0, 0.5)), FOCUS, REFERENCE, FACTOR
    )
    assert np.array_equal(motion.transforms, np.tile(np.eye(3), (4, 1, 1)))
    assert motion.largest < 0.26


def test_a_near_edge_that_blurs_over_its_surroundings_is_no_zoom():
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
    motion = estimated(images, FOCUS, REFERENCE, FACTOR)
    assert errors(motion, [(0.0, 0.0)] * 4).max() < 0.5


@pytest.mark.parametrize('noise', [0.0, 3.0])
def test_without_texture_nothing_is_claimed(noise):
    flat = [plane(np.full((340, 420), 128, np.float32), noise=noise, seed=n) for n in range(4)]
    motion = estimated(flat, FOCUS, REFERENCE, FACTOR)
    assert motion.failed == (0, 1, 2)
    assert np.isnan(motion.largest)
    assert np.array_equal(motion.transforms, np.tile(np.eye(3), (4, 1, 1)))


def test_a_plane_that_shows_something_else_stays_and_the_others_are_found():
    images = stack(SHIFTS)
    images[1] = plane(texture(99), noise=1.0)
    motion = estimated(images, FOCUS, REFERENCE, FACTOR)
    assert motion.failed == (1,)
    assert np.array_equal(motion.transforms[1], np.eye(3))
    assert np.delete(errors(motion, SHIFTS), 1).max() < 0.2


def test_brightness_and_contrast_do_not_matter():
    images = stack(SHIFTS)
    images[0] = 0.6 * images[0] + 20.0
    assert errors(estimated(images, FOCUS, REFERENCE, FACTOR), SHIFTS).max() < 0.2


def test_stacks_that_overlap_share_pairs(monkeypatch):
    calls = []
    refine = motions._gauss_newton
    monkeypatch.setattr(
        motions, '_gauss_newton', lambda *a, **k: calls.append(1) or refine(*a, **k)
    )
    looks = [RegistrationImage.at(image) for image in stack(SHIFTS)]
    known = PairCache()
    first = motions.estimate_motion(looks, FOCUS, REFERENCE, FACTOR, known)
    assert len(calls) == 9 and len(known) == 6  # coarse, fine and scale of three pairs
    again = motions.estimate_motion(looks, FOCUS, REFERENCE, FACTOR, known)
    assert len(calls) == 9
    assert np.array_equal(first.transforms, again.transforms)

    newer = [RegistrationImage.at(stack(SHIFTS)[0]), *looks[1:]]
    motions.estimate_motion(newer, FOCUS, REFERENCE, FACTOR, known)
    assert len(calls) == 12  # the one pair that the new plane is in
    known.retain(newer)
    assert len(known) == 6
