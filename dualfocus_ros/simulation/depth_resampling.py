# SPDX-License-Identifier: Apache-2.0
"""Depth maps as images: filling holes, and resampling that never mixes two surfaces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def fill_holes(depth: np.ndarray) -> np.ndarray:
    """Return (H, W) depth with each unknown pixel given the depth of the nearest known one.

    :raises ValueError: if nothing is known.
    """
    unknown = ~np.isfinite(depth)
    if not unknown.any():
        return depth
    if unknown.all():
        raise ValueError('the depth image has no valid pixel')
    index = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return depth[tuple(index)]


def resample_depth(depth: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sample a depth map on a grid of other positions.

    Inverse depth is affine over a plane, so it is interpolated where the neighbours belong to one
    surface; across an edge, next to a hole and outside the image the nearest pixel counts.

    :param depth: (H, W) metres, NaN where unknown.
    :param rows: (h,) row positions to sample, in pixels.
    :param columns: (w,) column positions to sample, in pixels.
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
    """Return (H, W - 1) whether pixel and right neighbour lie on one surface.

    The step between them must not be larger than the steps on both sides suggest.
    """
    step = np.abs(np.diff(inverse, axis=1))
    padded = np.pad(step, ((0, 0), (1, 1)), mode='edge')
    around = np.minimum(padded[:, :-2], padded[:, 2:])
    # The tolerance lets through the rounding of depth in millimetres.
    with np.errstate(invalid='ignore'):
        return step <= 2.0 * around + 1e-3 * inverse[:, :-1]
