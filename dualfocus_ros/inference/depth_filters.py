# SPDX-License-Identifier: Apache-2.0
"""Which pixels of a depth map are not to be believed, whatever their standard deviation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE

# Opposite neighbours in a window of 3 x 3: their row and column.
_OPPOSITES = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))


def out_of_sweep_masks(
    probability: Tensor, focus: np.ndarray, truncated_ends: tuple[bool, bool]
) -> tuple[Tensor, Tensor] | None:
    """Find pixels that may lie anywhere beyond the outermost plane of a sweep that lost an end.

    They look sharpest in that plane: nothing tells whether they would not have been sharper in
    one that is missing.

    :param probability: (N, H, W) focus probability of each plane.
    :param focus: (N,) dioptres.
    :param cut_off: whether planes are missing beyond the farthest and beyond the nearest one.
    :returns: (H, W) bool, beyond the far and beyond the near end; None where no end is missing.
    """
    if not any(truncated_ends):
        return None
    sharpest = torch.from_numpy(focus).to(probability.device)[probability.argmax(dim=0)]
    none = torch.zeros_like(sharpest, dtype=torch.bool)
    return (
        sharpest <= float(focus.min()) + FOCUS_TOLERANCE if truncated_ends[0] else none,
        sharpest >= float(focus.max()) - FOCUS_TOLERANCE if truncated_ends[1] else none,
    )


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
    # Comparisons are slow on a CPU: one at the end, of by how much both jumps exceed the least.
    # fmax() passes over what is not a number.
    excess: Tensor | None = None
    for (row, column), (other_row, other_column) in _OPPOSITES:
        one = padded[row : row + height, column : column + width]
        other = padded[other_row : other_row + height, other_column : other_column + width]
        # Above the lower one and below the higher one: by the smaller of both.
        above = torch.minimum(one, other).neg_().add_(dioptres)
        below = torch.maximum(one, other).sub_(dioptres)
        both = torch.minimum(above, below, out=above)
        excess = both if excess is None else torch.fmax(excess, both, out=excess)
    assert excess is not None
    return excess > threshold * dioptres
