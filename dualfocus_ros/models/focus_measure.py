# SPDX-License-Identifier: Apache-2.0
"""Hand-crafted focus measures. They need no training and so generalise to every camera."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as functional

# Pixel steps of the modified Laplacian, and radii of its windows.
LAPLACIAN_STEPS = (1, 2, 4)
# Second differences of luma in [0, 1] below this are noise of an 8-bit camera, not texture.
NOISE_FLOOR = 0.01


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


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Return the mean over square windows of 2 * radius + 1 pixels, cropped at the border.

    Separable; each window is built from sums of 2, 4, 8 pixels, so that 9x9 takes eight additions
    instead of 81.

    :param values: (B, 1, H, W).
    :param radius: in pixels, a power of two.
    """
    for axis in (-1, -2):
        length = values.shape[axis]
        sums = functional.pad(values, (radius,) * 2 if axis == -1 else (0, 0, radius, radius))
        last = sums.narrow(axis, 2 * radius, length)
        width = 1
        while width < 2 * radius:
            size = sums.shape[axis] - width
            sums = sums.narrow(axis, 0, size) + sums.narrow(axis, width, size)
            width *= 2
        index = torch.arange(length, device=values.device, dtype=values.dtype)
        count = index.clamp_max(radius) + index.flip(0).clamp_max(radius) + 1.0
        scale = count.reciprocal()
        values = (sums.narrow(axis, 0, length) + last) * (scale if axis == -1 else scale[:, None])
    return values


def log_focus_measures(images: Tensor) -> Tensor:
    """Return log(1 + windowed modified Laplacian / noise floor) at each of ``LAPLACIAN_STEPS``.

    The logarithm makes texture contrast additive, so that differences between planes depend on
    blur alone.

    :param images: (B, 3, H, W) in [0, 1].
    :returns: (B, 3, H, W); 0 in uniform regions.
    """
    red, green, blue = images.split(1, dim=-3)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # Rec. 601
    windowed = [box_mean(modified_laplacian(luma, step), step) for step in LAPLACIAN_STEPS]
    return torch.cat([torch.log1p(mean / NOISE_FLOOR) for mean in windowed], dim=1)
