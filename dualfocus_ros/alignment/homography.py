# SPDX-License-Identifier: Apache-2.0
"""Alignment by a homography and a radial term per plane, for hand-held or breathing stacks.

Each pair of neighbours is registered by a homography. The shift that remains is measured on tiles
and fitted by a smooth displacement with one radial term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging

import cv2
import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.alignment.alignment_result import (
    SMOOTH_PARAMETERS,
    Alignment,
    identity_alignment,
    smooth_basis,
)
from dualfocus_ros.camera.thin_lens import Lens

logger = logging.getLogger(__name__)

WORK_SIDE = 1600  # px; larger images are registered at this size, to a fraction of its pixels
MIN_TILES_FOR_SMOOTH = 24
_FIT_ITERATIONS = 15
_GRID = 17  # points along each axis at which displacement is averaged


def align_homography(
    images: Sequence[np.ndarray],
    focus: np.ndarray,
    reference: int,
    lens: Lens | None,
    progress: Callable[[], object],
) -> Alignment:
    """Register all planes to the reference plane.

    A plane that cannot be registered keeps the transform that its neighbour and the lens predict.
    """
    scale = min(1.0, WORK_SIDE / max(images[0].shape[:2]))
    grey = [registration.small_grey(image, scale) for image in images]
    count, shape = len(grey), grey[0].shape
    found = identity_alignment(count, reference)
    registered = np.ones(count, dtype=bool)
    warped: dict[int, np.ndarray] = {reference: grey[reference]}
    for index, neighbours in registration.registration_order(focus, reference):
        anchor = next(n for n in neighbours if registered[n])
        # The thin lens predicts a scaling about the image centre.
        zoom = 1.0 if lens is None else lens.magnification(focus[index], focus[anchor])
        cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
        guess = registration.similarity(cx * (1 - zoom), cy * (1 - zoom), zoom)
        pair = registration.register(grey[anchor], grey[index], guess)
        if pair is None:
            logger.warning(
                'plane %d (%.2f dioptres) could not be aligned: too little in common with its '
                'neighbour; it is used as it is',
                index,
                focus[index],
            )
            registered[index] = False
            pair = guess
        found.transforms[index] = pair @ found.transforms[anchor]
        found.transforms[index] /= found.transforms[index, 2, 2]
        found.smooth[index] = found.smooth[anchor]
        warped[index] = _warp(grey[index], found, index)
        if registered[index]:
            shifts = registration.tile_shifts(warped[anchor], warped[index])
            found.smooth[index] += _fit_smooth_displacement(shifts, shape)
            warped[index] = _warp(grey[index], found, index)
        found.displacement_px[index] = _rms_displacement(found, index, shape)
        progress()

    before, after = (
        np.array([registration.residual_shift(grey[reference], planes[n]) for n in range(count)])
        for planes in (grey, warped)
    )
    found.displacement_px[~registered] = np.nan
    others = np.arange(count) != reference
    if registered.all() and np.median((before - after)[others]) <= registration.SIMPLER_PX:
        # The planes are aligned already, by a tripod or the camera: resampling would blur them.
        found.transforms[:], found.smooth[:], found.residuals_px[:] = np.eye(3), 0.0, before
    else:
        found.residuals_px[:] = after
    return found.at_full_size(scale)


def _warp(image: np.ndarray, alignment: Alignment, index: int) -> np.ndarray:
    at = alignment.sample_positions(index, *image.shape)
    return cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _rms_displacement(alignment: Alignment, index: int, shape: tuple[int, ...]) -> float:
    """Return the root mean square displacement over an image of this shape, in pixels."""
    axes = (np.linspace(0.0, side - 1.0, _GRID) for side in shape[::-1])
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    moved = alignment.map_points(index, points, shape) - points
    return float(np.sqrt(np.mean(np.sum(moved**2, axis=-1))))


def _fit_smooth_displacement(shifts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Fit the smooth displacement to tile shifts (M, 4), by least absolute deviations."""
    if len(shifts) < MIN_TILES_FOR_SMOOTH:
        return np.zeros(SMOOTH_PARAMETERS)
    basis = smooth_basis(shifts[:, :2], shape).reshape(-1, SMOOTH_PARAMETERS)
    target = shifts[:, 2:].reshape(-1)
    weights = np.ones(len(shifts))
    parameters = np.zeros(SMOOTH_PARAMETERS)
    # Iteratively re-weighted: parallax and moving objects are outliers.
    for _ in range(_FIT_ITERATIONS):
        rows = np.repeat(np.sqrt(weights), 2)
        parameters = np.linalg.lstsq(basis * rows[:, None], target * rows, rcond=None)[0]
        errors = np.linalg.norm((target - basis @ parameters).reshape(-1, 2), axis=1)
        weights = 1.0 / np.maximum(errors, 0.1)
    return parameters
