# SPDX-License-Identifier: Apache-2.0
"""Hole filling and edge-preserving resampling of depth maps."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt


def fill_holes(depth: np.ndarray) -> np.ndarray:
    """Return (H, W) depth with each invalid pixel replaced by the nearest valid one.

    :param depth: (H, W), not finite where invalid.
    :raises ValueError: without a valid pixel.
    """
    invalid = ~np.isfinite(depth)
    if not invalid.any():
        return depth
    if invalid.all():
        raise ValueError('the depth map has no valid pixel')
    rows, columns = distance_transform_edt(invalid, return_distances=False, return_indices=True)
    return np.asarray(depth[rows, columns])


def resample_depth(depth: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Resample a depth map on a separable grid.

    Inverse depth is affine over a planar surface: it is interpolated linearly within a surface.
    Across an edge, next to a hole and outside the image the nearest pixel is taken.

    :param depth: (H, W) metres, NaN where unknown.
    :param rows: (h,) row coordinates in pixels.
    :param columns: (w,) column coordinates in pixels.
    :returns: (h, w) float32.
    """
    height, width = depth.shape
    rows = np.clip(rows, 0.0, height - 1.0)
    columns = np.clip(columns, 0.0, width - 1.0)
    inverse = (1.0 / depth).astype(np.float32)
    top = np.clip(np.floor(rows).astype(int), 0, max(height - 2, 0))
    left = np.clip(np.floor(columns).astype(int), 0, max(width - 2, 0))
    nearest = inverse[np.ix_(np.rint(rows).astype(int), np.rint(columns).astype(int))]
    if height < 4 or width < 4:
        return (1.0 / nearest).astype(np.float32)
    fy = (rows - top).astype(np.float32)[:, None]
    fx = (columns - left).astype(np.float32)[None, :]
    corners = [inverse[np.ix_(top + i, left + j)] for i in (0, 1) for j in (0, 1)]
    upper = corners[0] + (corners[1] - corners[0]) * fx
    lower = corners[2] + (corners[3] - corners[2]) * fx
    mixed = upper + (lower - upper) * fy
    across = _continuous(inverse)
    down = _continuous(inverse.T).T
    one_surface = across[np.ix_(top, left)] & across[np.ix_(top + 1, left)]
    one_surface &= down[np.ix_(top, left)] & down[np.ix_(top, left + 1)]
    return (1.0 / np.where(one_surface, mixed, nearest)).astype(np.float32)


def _continuous(inverse: np.ndarray) -> np.ndarray:
    """Return (H, W - 1) whether a pixel and its right neighbour lie on one surface.

    Criterion: the step between them is at most twice the smaller step next to it.
    """
    step = np.abs(np.diff(inverse, axis=1))
    padded = np.pad(step, ((0, 0), (1, 1)), mode='edge')
    around = np.minimum(padded[:, :-2], padded[:, 2:])
    # The tolerance covers depth rounded to millimetres.
    with np.errstate(invalid='ignore'):
        return step <= 2.0 * around + 1e-3 * inverse[:, :-1]
