# SPDX-License-Identifier: Apache-2.0
"""Hand-made focus measures: they need no training and so carry over to every camera."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as functional

LAPLACIAN_STEPS = (1, 2, 4)
# Below this second difference (of luma in 0..1) an 8-bit camera shows noise, not texture.
NOISE_FLOOR = 0.01


def luma(images: Tensor) -> Tensor:
    """Return (..., 1, H, W) Rec. 601 luma of (..., 3, H, W) images in [0, 1]."""
    red, green, blue = images.split(1, dim=-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def modified_laplacian(grey: Tensor, step: int) -> Tensor:
    """Return |2I - I(x-s) - I(x+s)| + |2I - I(y-s) - I(y+s)| (Nayar and Nakagawa 1994).

    :param grey: (B, 1, H, W); borders are replicated.
    """
    height, width = grey.shape[-2:]
    padded = functional.pad(grey, (step, step, step, step), mode='replicate')
    centre = 2.0 * grey
    rows = padded[..., step : step + height, :]
    columns = padded[..., :, step : step + width]
    horizontal = centre - rows[..., :, :width] - rows[..., :, 2 * step :]
    vertical = centre - columns[..., :height, :] - columns[..., 2 * step :, :]
    return horizontal.abs() + vertical.abs()


def box_mean(values: Tensor, reach: int) -> Tensor:
    """Return the mean over windows of 2 * reach + 1 pixels, cut off at the border.

    Rows and columns one after the other, each window from sums of 2, 4, 8 pixels: a window of
    9x9 costs eight additions rather than 81.

    :param values: (B, 1, H, W).
    :param reach: a power of two, or 1.
    """
    for axis in (-1, -2):
        length = values.shape[axis]
        edge = (reach, reach) if axis == -1 else (0, 0, reach, reach)
        sums = functional.pad(values, edge)
        last = sums.narrow(axis, 2 * reach, length)
        width = 1
        while width < 2 * reach:
            kept = sums.shape[axis] - width
            sums = sums.narrow(axis, 0, kept) + sums.narrow(axis, width, kept)
            width *= 2
        index = torch.arange(length, device=values.device, dtype=values.dtype)
        count = (index.clamp_max(reach) + index.flip(0).clamp_max(reach) + 1.0).reciprocal()
        values = (sums.narrow(axis, 0, length) + last) * (count if axis == -1 else count[:, None])
    return values


def log_focus_measures(images: Tensor) -> Tensor:
    """Return the logarithm of the windowed modified Laplacian at each of ``LAPLACIAN_STEPS``.

    The logarithm makes the contrast of the texture additive, so that the difference between
    planes depends on blur alone.

    :param images: (B, 3, H, W) in [0, 1].
    :returns: (B, 3, H, W), 0 where nothing exceeds the noise floor.
    """
    grey = luma(images)
    measures = []
    for step in LAPLACIAN_STEPS:
        energy = modified_laplacian(grey, step)
        windowed = box_mean(energy, step)
        measures.append(torch.log1p(windowed / NOISE_FLOOR))
    return torch.cat(measures, dim=1)
