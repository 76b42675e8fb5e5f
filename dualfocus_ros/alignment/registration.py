# SPDX-License-Identifier: Apache-2.0
"""Registration of one image to another of the same scene at a different focus.

Images are (H, W) float32 grey unless noted. A transform is a 3x3 homography from homogeneous pixel
coordinates (x, y, 1) of the first image to those of the second.
"""

from __future__ import annotations

import cv2
import numpy as np

COARSE_SIDE = 320
FINE_SIDE = 1280
BLUR_SIGMA = 1.5  # px; two planes differ by about this much blur anyway
MIN_CORRELATION = 0.3  # of contrast-normalised images; unrelated ones stay below 0.1
MAX_SHIFT = 0.25  # of the image width; more is neither breathing nor a trembling hand
SIMPLER_PX = 0.1  # the simpler of two motion models wins if its residual is no larger than this
TILE = 96
MIN_TILES = 4
MIN_TILE_CONTRAST = 3.0  # grey levels; a flatter tile measures noise
_ECC_CRITERIA = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 80, 1e-5


def register(first: np.ndarray, second: np.ndarray, guess: np.ndarray) -> np.ndarray | None:
    """Find the transform from ``first`` to ``second``, starting from ``guess``.

    The enhanced correlation coefficient (Evangelidis and Psarakis, 2008) of the two images is
    maximised from coarse to fine with an affine motion, then with a homography if that reduces
    the residual (a camera that pans by 30 pixels also bends the corners by several).

    :returns: a (3, 3) transform, or None where the images have too little in common.
    """
    affine = _maximise_ecc(first, second, guess, cv2.MOTION_AFFINE)
    if affine is None:
        scale = min(1.0, COARSE_SIDE / max(first.shape))
        small = (normalise_contrast(downscale(image, scale)) for image in (first, second))
        start = phase_correlate(*small)
        start[:2, 2] /= scale
        affine = _maximise_ecc(first, second, start @ guess, cv2.MOTION_AFFINE)
    if affine is None:
        return None
    projective = _maximise_ecc(first, second, affine, cv2.MOTION_HOMOGRAPHY)
    if projective is None:
        return affine
    remaining = [residual_shift(first, warp(second, each)) for each in (affine, projective)]
    return projective if remaining[0] - remaining[1] > SIMPLER_PX else affine


def registration_order(focus: np.ndarray, reference: int) -> list[tuple[int, list[int]]]:
    """Return the order of registration, outward in focus from the reference plane.

    :returns: each other plane with the planes between it and the reference, nearest first, the
        reference last.
    """
    order = [int(index) for index in np.argsort(focus, kind='stable')]
    at = order.index(reference)
    steps = []
    for way in (order[at:], order[at::-1]):
        steps += [(way[k], way[k - 1 :: -1]) for k in range(1, len(way))]
    return steps


def small_grey(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image (H, W, 3) RGB or (H, W) scaled down, as float32 grey."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return downscale(image.astype(np.float32), scale)


def downscale(image: np.ndarray, scale: float) -> np.ndarray:
    """Return the image scaled down; itself for a scale of 1."""
    if scale >= 1.0:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def similarity(dx: float, dy: float, scale: float = 1.0) -> np.ndarray:
    """Return the transform x -> scale x + (dx, dy)."""
    return np.array([[scale, 0.0, dx], [0.0, scale, dy], [0.0, 0.0, 1.0]])


def pixel_scaling(scale: float) -> np.ndarray:
    """Return the map from pixels to pixels of the scaled image; pixel centres are integers."""
    offset = 0.5 * scale - 0.5
    return similarity(offset, offset, scale)


def normalise_contrast(image: np.ndarray) -> np.ndarray:
    """Smooth slightly, and normalise local brightness and contrast."""
    smooth = cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), 6 * BLUR_SIGMA)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 6 * BLUR_SIGMA))
    return np.asarray(detail / (contrast + 2.0), dtype=np.float32)


def warp(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Resample ``image`` so that pixel x shows the content at ``transform`` x."""
    return cv2.warpPerspective(
        image,
        transform,
        image.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def covers(positions: np.ndarray, length: int) -> np.ndarray:
    """Return which positions along one axis lie within the pixels of an image of this length."""
    return np.asarray((positions >= -0.5) & (positions <= length - 0.5))


def phase_correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the translation from one image to the other by phase correlation, (3, 3)."""
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(first, second, window)
    return similarity(dx, dy)


def tile_shifts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Measure the shift of textured tiles between two images, by phase correlation.

    :returns: (M, 4) float64: centre x, centre y, shift x, shift y in pixels; tiles without
        texture are left out.
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
    """Return the median shift of tiles in pixels; NaN for too little texture."""
    shifts = tile_shifts(first, second)
    if len(shifts) < MIN_TILES:
        return float('nan')
    return float(np.median(np.hypot(shifts[:, 2], shifts[:, 3])))


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homography to points (..., 2)."""
    moved = points @ transform[:, :2].T + transform[:, 2]
    return moved[..., :2] / moved[..., 2:]


def _maximise_ecc(
    first: np.ndarray, second: np.ndarray, guess: np.ndarray, motion: int
) -> np.ndarray | None:
    """Maximise the correlation from coarse to fine; None where it does not converge."""
    transform = guess
    longest = max(first.shape)
    rows = 3 if motion == cv2.MOTION_HOMOGRAPHY else 2
    for side in sorted({min(COARSE_SIDE, longest), min(FINE_SIDE, longest)}):
        scale = side / longest
        one, two = (normalise_contrast(downscale(image, scale)) for image in (first, second))
        scaling = pixel_scaling(scale)
        start = scaling @ transform @ np.linalg.inv(scaling)
        start = (start / start[2, 2]).astype(np.float32)[:rows].copy()
        try:
            correlation, found = cv2.findTransformECC(
                one, two, start, motion, _ECC_CRITERIA, None, 1
            )
        except cv2.error:  # raised when the iterations diverge
            return None
        if not (correlation > MIN_CORRELATION and np.all(np.isfinite(found))):
            return None
        full = np.eye(3)
        full[:rows] = found
        transform = np.linalg.inv(scaling) @ full @ scaling
        transform /= transform[2, 2]
    height, width = first.shape[0] - 1.0, first.shape[1] - 1.0
    corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    shifts = np.linalg.norm(transform_points(transform, corners) - corners, axis=-1)
    return transform if shifts.max() <= MAX_SHIFT * first.shape[1] else None
