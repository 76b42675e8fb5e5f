# SPDX-License-Identifier: Apache-2.0
"""Masks of unreliable depth pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE

# Opposite neighbours in a window of 3 x 3: their row and column.
_OPPOSITES = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))


def out_of_sweep_masks(
    probability: Tensor, focus: np.ndarray, cut_off: tuple[bool, bool]
) -> tuple[Tensor, Tensor] | None:
    """Return the pixels that are sharpest in the outermost plane of a sweep that lost an end.

    They may be sharper in a missing plane: their depth is only bounded.

    :param probability: (N, H, W) focus probability of each plane.
    :param focus: (N,) dioptres.
    :param cut_off: whether planes are missing beyond the farthest and beyond the nearest one.
    :returns: (H, W) bool, beyond the far and beyond the near end; None where no end is missing.
    """
    if not any(cut_off):
        return None
    sharpest = torch.from_numpy(focus).to(probability.device)[probability.argmax(dim=0)]
    none = torch.zeros_like(sharpest, dtype=torch.bool)
    return (
        sharpest <= float(focus.min()) + FOCUS_TOLERANCE if cut_off[0] else none,
        sharpest >= float(focus.max()) - FOCUS_TOLERANCE if cut_off[1] else none,
    )


def flying_pixels(dioptres: Tensor, threshold: float) -> Tensor:
    """Return flying pixels, between a near and a far surface, where the network blurs an edge.

    A pixel flies when, in some direction, one neighbour is nearer and the opposite one farther,
    each by more than ``threshold`` times its inverse depth: q1 - q > t q and q - q2 > t q. The
    pixels on both sides of a sharp step stay, because their jump is on one side only. So does a
    surface at an angle of up to atan(t f) between normal and ray, f in pixels: 88 degrees for
    t = 0.05 and f = 570 px.

    :param dioptres: (H, W) inverse depth, finite or NaN.
    :param threshold: t, above 0.
    :returns: (H, W) bool; False next to NaN.
    """
    height, width = dioptres.shape
    padded = functional.pad(dioptres[None, None], (1, 1, 1, 1), mode='replicate')[0, 0]
    # Comparisons are slow on a CPU: one at the end, of the largest excess of both jumps over the
    # smaller one. fmax() ignores NaN.
    excess: Tensor | None = None
    for (row, column), (other_row, other_column) in _OPPOSITES:
        one = padded[row : row + height, column : column + width]
        other = padded[other_row : other_row + height, other_column : other_column + width]
        # Above the lower neighbour and below the higher one; the smaller of both differences.
        above = torch.minimum(one, other).neg_().add_(dioptres)
        below = torch.maximum(one, other).sub_(dioptres)
        both = torch.minimum(above, below, out=above)
        excess = both if excess is None else torch.fmax(excess, both, out=excess)
    assert excess is not None
    return excess > threshold * dioptres
