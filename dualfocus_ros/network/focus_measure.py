# SPDX-License-Identifier: Apache-2.0
"""Hand-made focus measures: they need no training and so carry over to every camera."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as functional

STEPS = (1, 2, 4)
# Below this second difference (of luma in 0..1) an 8-bit camera shows noise, not texture.
NOISE_FLOOR = 0.01


def luma(images: Tensor) -> Tensor:
    """Return (..., 1, H, W) Rec. 601 luma of (..., 3, H, W) images in [0, 1]."""
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images * weights).sum(dim=-3, keepdim=True)


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


def log_focus_measures(images: Tensor) -> Tensor:
    """Return the logarithm of the windowed modified Laplacian at each of ``STEPS``.

    The logarithm makes the contrast of the texture additive, so that the difference between
    planes depends on blur alone.

    :param images: (B, 3, H, W) in [0, 1].
    :returns: (B, 3, H, W), 0 where nothing exceeds the noise floor.
    """
    grey = luma(images)
    measures = []
    for step in STEPS:
        energy = modified_laplacian(grey, step)
        windowed = functional.avg_pool2d(
            energy, 2 * step + 1, stride=1, padding=step, count_include_pad=False
        )
        measures.append(torch.log1p(windowed / NOISE_FLOOR))
    return torch.cat(measures, dim=1)
