# SPDX-License-Identifier: Apache-2.0
"""Alignment of the planes of a hand-held or breathing focal stack, from the images alone.

A lens that focuses also magnifies by a few per cent (focus breathing) and changes its radial
distortion a little, and a hand trembles by tens of pixels. Planes are registered pairwise between
neighbours in focus, because these look most alike, and chained to the reference plane; what
then remains is measured on tiles and explained by one radial term per plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import logging

import cv2
import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.camera.thin_lens import Lens

logger = logging.getLogger(__name__)

WORK_SIDE = 1600  # px; larger images are registered at this size, to a fraction of its pixels
# Parameters of the smooth correction: affine (6), perspective (2), radial (1).
CORRECTION_SIZE = 9
MIN_TILES_FOR_CORRECTION = 24


@dataclass(frozen=True, eq=False)
class Alignment:
    """How each plane of a stack maps onto the reference plane.

    A reference pixel x is seen in plane n at ``transforms[n] (x + B(x) corrections[n])``, with B
    the basis of :func:`_basis`.

    :param transforms: (N, 3, 3) float64 homographies in pixels.
    :param corrections: (N, 9) float64, a smooth displacement in pixels of the reference plane.
    :param residuals_px: (N,) median shift that remains against the reference plane, measured on
        tiles, in pixels; NaN where there is too little texture to tell.
    :param ok: (N,) False where the registration failed and the plane was left where its
        neighbour and the lens model put it.
    :param reference: index of the reference plane.
    """

    transforms: np.ndarray
    corrections: np.ndarray
    residuals_px: np.ndarray
    ok: np.ndarray
    reference: int

    def sample_positions(self, index: int, height: int, width: int) -> np.ndarray:
        """Return where each reference pixel lies in plane ``index``: (H, W, 2) float32, x y."""
        # Row by row, so that large photographs need no more memory than their result.
        positions = np.empty((height, width, 2), np.float32)
        points = np.empty((width, 2))
        points[:, 0] = np.arange(width)
        for row in range(height):
            points[:, 1] = row
            moved = points
            if self.corrections[index].any():
                moved = points + _basis(points, (height, width)) @ self.corrections[index]
            positions[row] = registration.transform_points(self.transforms[index], moved)
        return positions

    def is_identity(self, index: int) -> bool:
        """Tell whether the plane needs no resampling."""
        same = np.array_equal(self.transforms[index], np.eye(3))
        return same and not self.corrections[index].any()


def align_planes(
    images: Sequence[np.ndarray],
    focus_dioptres: Sequence[float] | np.ndarray,
    *,
    reference: int | None = None,
    lens: Lens | None = None,
    progress: Callable[[], object] | None = None,
) -> Alignment:
    """Register all planes of a stack to its reference plane.

    :param images: N images of one size, (H, W) or (H, W, 3) uint8.
    :param focus_dioptres: focus of each image in 1/m; decides which planes are neighbours.
    :param reference: index of the plane to align to; by default the one focused nearest, which
        has the narrowest field of view.
    :param lens: where known, its breathing v(s) / v(s_ref) is the first guess of the scale.
    :param progress: called once per registered plane.
    :raises ValueError: if the images differ in size or their number differs from that of the
        focus distances.
    """
    focus = np.asarray(focus_dioptres, dtype=np.float64)
    if len(images) != len(focus):
        raise ValueError(f'{len(images)} images but {len(focus)} focus distances')
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise ValueError(f'planes of one stack differ in size: {sorted(sizes)}')
    factor = min(1.0, WORK_SIDE / max(images[0].shape[:2]))
    grey = [registration.downscale(_grey(image), factor) for image in images]
    count, shape = len(grey), grey[0].shape
    first = int(np.argmax(focus)) if reference is None else reference

    transforms = np.tile(np.eye(3), (count, 1, 1))
    corrections = np.zeros((count, CORRECTION_SIZE))
    ok = np.ones(count, dtype=bool)
    warped: dict[int, np.ndarray] = {first: grey[first]}
    for index, neighbours in registration.registration_order(focus, first):
        anchor = next(n for n in neighbours if ok[n])
        guess = _breathing_guess(lens, focus[index], focus[anchor], shape)
        pair = registration.register(grey[anchor], grey[index], guess)
        if pair is None:
            logger.warning(
                'plane %d (%.2f dioptres) could not be aligned: too little in common with its '
                'neighbour; it is used as it is',
                index,
                focus[index],
            )
            ok[index] = False
            pair = guess
        transforms[index] = pair @ transforms[anchor]
        transforms[index] /= transforms[index, 2, 2]
        corrections[index] = corrections[anchor]
        attempt = Alignment(transforms, corrections, np.zeros(count), ok, first)
        warped[index] = _resample(grey[index], attempt, index)
        if ok[index]:
            shifts = registration.tile_shifts(warped[anchor], warped[index])
            corrections[index] += _fit_smooth_displacement(shifts, shape)
            warped[index] = _resample(grey[index], attempt, index)
        if progress is not None:
            progress()

    residuals = np.array(
        [registration.residual_shift(grey[first], warped[n]) for n in range(count)]
    )
    raw = np.array([registration.residual_shift(grey[first], grey[n]) for n in range(count)])
    others = np.arange(count) != first
    if ok.all() and np.median((raw - residuals)[others]) <= registration.SIMPLER_PX:
        # A tripod or the camera aligned these already: resampling would only blur them.
        transforms, corrections, residuals = (
            np.tile(np.eye(3), (count, 1, 1)),
            0 * corrections,
            raw,
        )
    return _upscaled(Alignment(transforms, corrections, residuals, ok, first), factor)


def warp_planes(
    images: Sequence[np.ndarray], alignment: Alignment
) -> tuple[list[np.ndarray], np.ndarray]:
    """Resample the planes into the geometry of the reference plane.

    :returns: the images, and a bool mask (H, W) of the pixels that every plane sees. Outside it
        the nearest pixel of the plane's edge is repeated.
    """
    height, width = images[0].shape[:2]
    covered = np.ones((height, width), dtype=bool)
    warped = []
    for index, image in enumerate(images):
        if alignment.is_identity(index):
            warped.append(image)
            continue
        at = alignment.sample_positions(index, height, width)
        warped.append(cv2.remap(image, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        # Half a pixel of slack: those samples still lie within the plane's outermost pixels.
        covered &= (at >= -0.5).all(axis=-1)
        covered &= (at[..., 0] <= width - 0.5) & (at[..., 1] <= height - 0.5)
    return warped, covered


def _upscaled(alignment: Alignment, factor: float) -> Alignment:
    """Return the alignment of the images that were shrunk by ``factor`` for registration."""
    if factor >= 1.0:
        return alignment
    shrink = registration.pixel_scaling(factor)
    transforms = np.linalg.inv(shrink) @ alignment.transforms @ shrink
    transforms /= transforms[:, 2:, 2:]
    # An untouched plane stays exactly so.
    transforms[[alignment.is_identity(n) for n in range(len(transforms))]] = np.eye(3)
    return Alignment(
        transforms,
        alignment.corrections / factor,
        alignment.residuals_px / factor,
        alignment.ok,
        alignment.reference,
    )


def _resample(image: np.ndarray, alignment: Alignment, index: int) -> np.ndarray:
    at = alignment.sample_positions(index, *image.shape)
    return cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _basis(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return (M, 2, 9): displacement of each point by a unit of each correction parameter.

    Coordinates are taken from the image centre in units of half the width. The parameters are
    shift (2), linear (4), perspective (x^2, xy; xy, y^2) and radial distortion (x r^2, y r^2).
    """
    half = shape[1] / 2
    x = (points[:, 0] - (shape[1] - 1) / 2) / half
    y = (points[:, 1] - (shape[0] - 1) / 2) / half
    one, zero, r2 = np.ones_like(x), np.zeros_like(x), x * x + y * y
    along_x = [one, zero, x, y, zero, zero, x * x, x * y, x * r2]
    along_y = [zero, one, zero, zero, x, y, x * y, y * y, y * r2]
    return np.stack([np.stack(along_x, axis=-1), np.stack(along_y, axis=-1)], axis=1)


def _fit_smooth_displacement(shifts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Fit the smooth displacement to tile shifts (M, 4), by least absolute deviations."""
    if len(shifts) < MIN_TILES_FOR_CORRECTION:
        return np.zeros(CORRECTION_SIZE)
    basis = _basis(shifts[:, :2], shape).reshape(-1, CORRECTION_SIZE)
    target = shifts[:, 2:].reshape(-1)
    weights = np.ones(len(shifts))
    found = np.zeros(CORRECTION_SIZE)
    for _ in range(15):  # iteratively re-weighted: parallax and moving things are outliers
        rows = np.repeat(np.sqrt(weights), 2)
        found = np.linalg.lstsq(basis * rows[:, None], target * rows, rcond=None)[0]
        errors = np.linalg.norm((target - basis @ found).reshape(-1, 2), axis=1)
        weights = 1.0 / np.maximum(errors, 0.1)
    return found


def _breathing_guess(
    lens: Lens | None, focus: float, anchor_focus: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the scaling about the image centre that the thin lens predicts."""
    if lens is None:
        return np.eye(3)
    scale = lens.magnification(focus, anchor_focus)
    cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    return np.array([[scale, 0, cx * (1 - scale)], [0, scale, cy * (1 - scale)], [0, 0, 1.0]])


def _grey(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image.astype(np.float32)
