# SPDX-License-Identifier: Apache-2.0
"""Alignment by homography of breathing, hand-held stacks, against known warps."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.alignment.align import align, warp_planes
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.camera.thin_lens import Lens

HEIGHT, WIDTH = 300, 400
FOCUS = np.array([0.5, 1.0, 1.6, 2.2])  # the last is the reference


def texture(seed: int = 3) -> np.ndarray:
    """Return a sharp scene with detail at every scale, larger than the planes cut from it."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((HEIGHT + 200, WIDTH + 200), np.float32)
    for size, weight in ((6, 60), (25, 40), (100, 30), (300, 20)):
        noise = rng.standard_normal((size, size)).astype(np.float32)
        scene += weight * cv2.resize(noise, scene.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 0.6 * scene, 0, 255)


def pixels() -> np.ndarray:
    """Return the coordinates of every pixel: (H, W, 2), x y."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    return np.stack([x, y], axis=-1)


def move(
    points: np.ndarray, scale: float, shift: tuple[float, float], radial: float
) -> np.ndarray:
    """Return where points of the reference plane lie in a plane that breathed and shifted."""
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    away = points - centre
    r2 = (away**2).sum(axis=-1, keepdims=True) / (WIDTH / 2) ** 2
    return away * scale * (1 + radial * r2) + centre + shift


def true_positions(scale: float, shift: tuple[float, float], radial: float) -> np.ndarray:
    """Return where each reference pixel lies in a plane: (H, W, 2)."""
    return move(pixels(), scale, shift, radial)


def make_plane(
    scene: np.ndarray, scale: float, shift: tuple[float, float], radial: float, blur: float
) -> np.ndarray:
    """Photograph the scene so that the reference pixel x appears at true_positions(x)."""
    seen = pixels()
    for _ in range(30):  # the inverse of `move`, by fixed-point iteration
        seen += pixels() - move(seen, scale, shift, radial)
    blurred = cv2.GaussianBlur(scene, (0, 0), blur)
    plane = cv2.remap(blurred, (seen + 100).astype(np.float32), None, cv2.INTER_CUBIC)
    noise = np.random.default_rng(int(10 * blur)).normal(0, 1.5, plane.shape)
    return np.clip(plane + noise, 0, 255).astype(np.uint8)


def errors(alignment: Alignment, index: int, truth: np.ndarray) -> np.ndarray:
    """Return the distance from the true position over the image less a 10 % border."""
    found = alignment.sample_positions(index, HEIGHT, WIDTH)
    distance = np.linalg.norm(found - truth, axis=-1)
    return distance[30:-30, 40:-40]


@pytest.mark.parametrize('radial', [0.0, 0.006])
def test_recovers_scale_shift_and_radial_distortion(radial):
    scene = texture()
    warps = [(0.975, (9.0, -6.0), 1.0), (0.985, (4.5, 3.0), 2 / 3), (0.993, (-3.2, 1.4), 1 / 3)]
    images = [
        make_plane(scene, scale, shift, radial * part, blur)
        for (scale, shift, part), blur in zip(warps, (3.0, 2.2, 1.4), strict=True)
    ]
    images.append(make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8))

    alignment = align(images, FOCUS, model='homography')

    assert alignment.reference == 3
    assert alignment.failed == ()
    for index, (scale, shift, part) in enumerate(warps):
        error = errors(alignment, index, true_positions(scale, shift, radial * part))
        assert np.median(error) < 0.2, (index, np.median(error))
    assert np.nanmax(alignment.residuals_px) < 0.3


def test_colour_planes_in_any_order_and_a_chosen_reference():
    scene = texture(5)
    grey = [
        make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8),
        make_plane(scene, 0.97, (5.0, 2.0), 0.0, 2.0),
        make_plane(scene, 0.985, (2.0, 1.0), 0.0, 1.4),
    ]
    images = [np.repeat(image[..., None], 3, axis=2) for image in grey]
    alignment = align(images, [2.0, 0.5, 1.2], reference=0, model='homography')
    warped, covered = warp_planes(images, alignment)
    assert all(image.shape == (HEIGHT, WIDTH, 3) for image in warped)
    error = errors(alignment, 1, true_positions(0.97, (5.0, 2.0), 0.0))
    assert np.median(error) < 0.2
    # Aligned planes agree up to blur.
    difference = np.abs(warped[1].astype(float) - grey[0][..., None])[covered]
    before = np.abs(grey[1].astype(float) - grey[0])[covered]
    assert difference.mean() < 0.6 * before.mean()


def test_leaves_an_aligned_stack_unchanged():
    scene = texture(7)
    images = [make_plane(scene, 1.0, (0.0, 0.0), 0.0, blur) for blur in (3.0, 2.0, 1.0, 0.8)]
    alignment = align(images, FOCUS, model='homography')
    assert all(alignment.is_identity(index) for index in range(4))
    warped, covered = warp_planes(images, alignment)
    assert covered.all()
    assert all(np.array_equal(one, two) for one, two in zip(images, warped, strict=True))


def test_lens_breathing_is_the_initial_guess():
    lens = Lens(focal_length=0.025, f_number=2.0, pixel_pitch=1e-5)
    focus = [0.0, 5.0]
    scale = lens.magnification(focus[0], focus[1])
    assert scale < 0.9
    scene = texture(11)
    images = [
        make_plane(scene, scale, (0.0, 0.0), 0.0, 1.2),
        make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8),
    ]
    alignment = align(images, focus, lens=lens, model='homography')
    assert alignment.failed == ()
    assert np.median(errors(alignment, 0, true_positions(scale, (0.0, 0.0), 0.0))) < 0.2


def test_mask_excludes_pixels_outside_a_shifted_plane():
    scene = texture(13)
    images = [
        make_plane(scene, 1.0, (20.0, 0.0), 0.0, 1.2),
        make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8),
    ]
    alignment = align(images, [0.5, 2.0], model='homography')
    _, covered = warp_planes(images, alignment)
    # Pixels further right than WIDTH - 20 lie outside the shifted plane.
    assert covered[20:-20, : WIDTH - 22].all()
    assert not covered[:, WIDTH - 18 :].any()


def test_warns_of_a_plane_with_other_content(caplog):
    scene = texture(17)
    images = [
        make_plane(scene, 0.98, (3.0, 0.0), 0.0, 1.6),
        make_plane(texture(18), 1.0, (0.0, 0.0), 0.0, 1.0),
        make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8),
    ]
    alignment = align(images, [0.5, 1.0, 2.0], model='homography')
    assert alignment.failed == (1,)
    assert 'plane 1 (1.00 dioptres) could not be aligned' in caplog.text
    # The plane behind it is aligned to the last registered plane.
    assert np.median(errors(alignment, 0, true_positions(0.98, (3.0, 0.0), 0.0))) < 0.2


def test_planes_without_texture_fail_without_an_error():
    flat = [np.full((HEIGHT, WIDTH), 128, np.uint8)] * 3
    alignment = align(flat, [0.5, 1.0, 2.0], model='homography')
    assert alignment.failed == (0, 1)
    warped, covered = warp_planes(flat, alignment)
    assert covered.all()
    assert all(np.array_equal(image, flat[0]) for image in warped)


def test_large_images_are_registered_at_reduced_size(monkeypatch):
    monkeypatch.setattr('dualfocus_ros.alignment.homography.WORK_SIDE', 250)
    scene = texture(19)
    images = [
        make_plane(scene, 0.98, (6.0, -3.0), 0.0, 1.6),
        make_plane(scene, 1.0, (0.0, 0.0), 0.0, 0.8),
    ]
    alignment = align(images, [0.5, 2.0], model='homography')
    error = errors(alignment, 0, true_positions(0.98, (6.0, -3.0), 0.0))
    assert np.median(error) < 0.3
    still = align([images[1], images[1]], [0.5, 2.0], model='homography')
    assert all(still.is_identity(index) for index in range(2))
