# SPDX-License-Identifier: Apache-2.0
"""Which pixels of a depth map are not to be believed, whatever their standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

# Opposite neighbours in a window of 3 x 3: their row and column.
_OPPOSITES = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))


def flying_pixels(dioptres: Tensor, threshold: float) -> Tensor:
    """Find pixels in the air between a near surface and a far one, where a network blurs an edge.

    A pixel flies when, in some direction, one neighbour is nearer and the opposite one farther,
    each by more than ``threshold`` of its own inverse depth: q1 - q > t q and q - q2 > t q. The
    pixels on both sides of a sharp step stay, because their jump is on one side only. So does a
    surface that is seen at an angle of up to atan(t f) to its normal, f in pixels: 88 degrees
    for t = 0.05 and f = 570 px.

    :param dioptres: (H, W) inverse depth, finite or NaN.
    :param threshold: t, above 0.
    :returns: (H, W) bool; False beside NaN.
    """
    height, width = dioptres.shape
    padded = functional.pad(dioptres[None, None], (1, 1, 1, 1), mode='replicate')[0, 0]
    margin = threshold * dioptres
    nearer, farther = dioptres + margin, dioptres - margin
    flying = torch.zeros_like(dioptres, dtype=torch.bool)
    for (row, column), (other_row, other_column) in _OPPOSITES:
        one = padded[row:row + height, column:column + width]
        other = padded[other_row:other_row + height, other_column:other_column + width]
        high, low = torch.maximum(one, other), torch.minimum(one, other)
        flying |= (high > nearer) & (low < farther)
    return flying


def seen_by_all(
    masks: Sequence[np.ndarray | None], positions: Sequence[tuple[Tensor, Tensor] | None],
    device: torch.device,
) -> Tensor | None:
    """Return the pixels of the reference plane that every plane's camera saw, (H, W) bool.

    :param masks: one (H, W) bool for each plane, None for all pixels. One array that several
        planes share is looked at once for each different position.
    :param positions: for each plane the columns (W,) and rows (H,) in it that the pixels of the
        reference plane come from; None for the same ones.
    :returns: None where every pixel is seen.
    """
    seen: Tensor | None = None
    done: set[tuple[int, int | None]] = set()
    for index, (mask, position) in enumerate(zip(masks, positions, strict=True)):
        if mask is None and position is None:
            continue
        key = (id(mask), None if position is None else index)
        if key in done:
            continue
        done.add(key)
        valid = None if mask is None else torch.from_numpy(mask).to(device)
        if position is not None:
            valid = _resampled(valid, *position)
        if valid is not None:
            seen = valid if seen is None else seen & valid
    return seen


def _resampled(mask: Tensor | None, columns: Tensor, rows: Tensor) -> Tensor:
    """Return where all four pixels around each position are inside the image and valid."""
    height = len(rows) if mask is None else mask.shape[0]
    width = len(columns) if mask is None else mask.shape[1]
    inside = ((rows >= 0) & (rows <= height - 1))[:, None] & (
        (columns >= 0) & (columns <= width - 1)
    )
    if mask is None:
        return inside
    left, above = columns.floor().long(), rows.floor().long()
    right, below = columns.ceil().long(), rows.ceil().long()
    by_column = mask.index_select(1, left.clamp(0, width - 1)) & mask.index_select(
        1, right.clamp(0, width - 1)
    )
    both = by_column.index_select(0, above.clamp(0, height - 1)) & by_column.index_select(
        0, below.clamp(0, height - 1)
    )
    return both & inside
