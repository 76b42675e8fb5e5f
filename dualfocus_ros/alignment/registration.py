# SPDX-License-Identifier: Apache-2.0
"""Registration of one image to another that shows the same scene at a different focus.

All images here are (H, W) float32 grey. A transform is a 3x3 homography that takes homogeneous
pixel coordinates (x, y, 1) of the first image to those of the second.
"""

from __future__ import annotations

import cv2
import numpy as np

COARSE_SIDE = 320
FINE_SIDE = 1280
BLUR_SIGMA = 1.5  # px; two planes differ by about this much blur anyway
MIN_CORRELATION = 0.3  # of contrast-normalised images; unrelated ones stay below 0.1
MAX_SHIFT = 0.25  # of the image width; more is neither breathing nor trembling
SIMPLER_PX = 0.1  # the simpler of two motion models wins if its residual is no larger than this
TILE = 96
MIN_TILES = 4
MIN_TILE_CONTRAST = 3.0  # grey levels; a flatter tile measures noise


def register(first: np.ndarray, second: np.ndarray, guess: np.ndarray) -> np.ndarray | None:
    """Find the transform from ``first`` to ``second``, starting from ``guess``.

    The enhanced correlation coefficient (Evangelidis and Psarakis, 2008) of the two images is
    maximised from coarse to fine, with an affine motion and then, if that pays, a homography
    (a camera that pans by 30 pixels also bends the corners by several).

    :returns: a (3, 3) transform, or None where the images have too little in common.
    """
    affine = _maximise(first, second, guess, cv2.MOTION_AFFINE)
    if affine is None:
        factor = min(1.0, COARSE_SIDE / max(first.shape))
        start = phase_correlate(
            *(normalise_contrast(downscale(image, factor)) for image in (first, second))
        )
        start[:2, 2] /= factor
        affine = _maximise(first, second, start @ guess, cv2.MOTION_AFFINE)
    if affine is None:
        return None
    projective = _maximise(first, second, affine, cv2.MOTION_HOMOGRAPHY)
    if projective is None:
        return affine
    gain = residual_shift(first, warp(second, affine)) - residual_shift(
        first, warp(second, projective)
    )
    return projective if gain > SIMPLER_PX else affine


def warp(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Resample ``image`` so that the pixel at x shows what was at ``transform`` x."""
    return cv2.warpPerspective(
        image,
        transform,
        image.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def tile_shifts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Measure how far textured tiles of the first image lie from their place in the second.

    :returns: (M, 4) float64: centre x, centre y, shift x, shift y in pixels, by phase
        correlation; tiles without texture are left out.
    """
    tile = min(TILE, min(first.shape) // 2)
    window = cv2.createHanningWindow((tile, tile), cv2.CV_32F)
    first, second = cv2.GaussianBlur(first, (0, 0), 2.0), cv2.GaussianBlur(second, (0, 0), 2.0)
    found = []
    for y in range(0, first.shape[0] - tile + 1, tile // 2):
        for x in range(0, first.shape[1] - tile + 1, tile // 2):
            one = first[y : y + tile, x : x + tile]
            two = second[y : y + tile, x : x + tile]
            if min(one.std(), two.std()) < MIN_TILE_CONTRAST:
                continue
            (dx, dy), _ = cv2.phaseCorrelate(one - one.mean(), two - two.mean(), window)
            if np.hypot(dx, dy) < tile / 8:  # a farther peak is an accident of the texture
                found.append((x + (tile - 1) / 2, y + (tile - 1) / 2, dx, dy))
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def residual_shift(first: np.ndarray, second: np.ndarray) -> float:
    """Return the median shift of the tiles in pixels; NaN for too little texture to tell."""
    shifts = tile_shifts(first, second)
    if len(shifts) < MIN_TILES:
        return float('nan')
    return float(np.median(np.hypot(shifts[:, 2], shifts[:, 3])))


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (..., 2) by a homography."""
    moved = points @ transform[:, :2].T + transform[:, 2]
    return moved[..., :2] / moved[..., 2:]


def max_corner_shift(transform: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance that a corner of an image of this shape moves, in pixels."""
    height, width = shape[0] - 1.0, shape[1] - 1.0
    corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    return float(np.max(np.linalg.norm(transform_points(transform, corners) - corners, axis=-1)))


def downscale(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale an image down; by 1 it stays what it is."""
    if factor >= 1.0:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def pixel_scaling(factor: float) -> np.ndarray:
    """Return the map from pixels to those of the shrunken image (pixel centres are integers)."""
    offset = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, offset], [0.0, factor, offset], [0.0, 0.0, 1.0]])


def _maximise(
    first: np.ndarray, second: np.ndarray, guess: np.ndarray, motion: int
) -> np.ndarray | None:
    """Maximise the correlation from coarse to fine; None where it does not converge."""
    transform = guess
    longest = max(first.shape)
    rows = 3 if motion == cv2.MOTION_HOMOGRAPHY else 2
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 80, 1e-5)
    for side in sorted({min(COARSE_SIDE, longest), min(FINE_SIDE, longest)}):
        factor = side / longest
        one, two = (normalise_contrast(downscale(image, factor)) for image in (first, second))
        scaling = pixel_scaling(factor)
        start = scaling @ transform @ np.linalg.inv(scaling)
        start = (start / start[2, 2]).astype(np.float32)[:rows].copy()
        try:
            correlation, found = cv2.findTransformECC(one, two, start, motion, criteria, None, 1)
        except cv2.error:  # it raises when the iterations diverge
            return None
        if not (correlation > MIN_CORRELATION and np.all(np.isfinite(found))):
            return None
        full = np.eye(3)
        full[:rows] = found
        transform = np.linalg.inv(scaling) @ full @ scaling
        transform /= transform[2, 2]
    if max_corner_shift(transform, first.shape) > MAX_SHIFT * first.shape[1]:
        return None
    return transform


def phase_correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the pure translation from one image to the other that phase correlation finds."""
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(first, second, window)
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def registration_order(focus: np.ndarray, first: int) -> list[tuple[int, list[int]]]:
    """Return each plane but the first with its neighbours on the way back to it, nearest first."""
    order = [int(index) for index in np.argsort(focus, kind='stable')]
    at = order.index(first)
    steps = []
    for way in (order[at:], order[at::-1]):
        steps += [(way[k], way[k - 1 :: -1]) for k in range(1, len(way))]
    return steps


def normalise_contrast(image: np.ndarray) -> np.ndarray:
    """Equalise blur a little, and local brightness and contrast fully."""
    smooth = cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), 6 * BLUR_SIGMA)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 6 * BLUR_SIGMA))
    return np.asarray(detail / (contrast + 2.0), dtype=np.float32)
