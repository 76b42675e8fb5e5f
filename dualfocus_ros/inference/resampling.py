# SPDX-License-Identifier: Apache-2.0
"""Brings every plane of a stack into the geometry of its reference plane, by one interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.alignment.registration import covers

# Columns (W,) and rows (H,), or both (H, W), in pixels; None for the pixel's own place.
SourcePositions = tuple[np.ndarray, np.ndarray] | None


def sampling_grid(
    positions: tuple[np.ndarray, np.ndarray], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Return positions as ``grid_sample`` takes them: (H, W, 2), x and y from -1 to 1.

    :param size: height and width of the image that is sampled; -1 and 1 are the centres of its
        outermost pixels.
    """
    height, width = size
    columns, rows = (torch.from_numpy(values).to(device) for values in positions)
    x = columns * (2.0 / max(width - 1, 1)) - 1.0
    y = rows * (2.0 / max(height - 1, 1)) - 1.0
    if columns.dim() == 1:
        x, y = x.expand(len(rows), -1), y[:, None].expand(-1, len(columns))
    return torch.stack([x, y], dim=-1)


def resample_plane(image: Tensor, positions: SourcePositions, mode: str = 'bicubic') -> Tensor:
    """Return an image (C, H, W) in [0, 1] at other places; beyond its edge the edge is repeated.

    :param positions: None leaves the image as it is.
    """
    if positions is None:
        return image
    grid = sampling_grid(positions, (image.shape[-2], image.shape[-1]), image.device)
    sampled = functional.grid_sample(
        image[None], grid[None], mode=mode, padding_mode='border', align_corners=True
    )[0]
    return sampled.clamp_(0.0, 1.0)


def common_valid_mask(
    positions: Sequence[SourcePositions], size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Return the pixels of the reference plane that every plane's camera saw, (H, W) bool.

    :param size: height and width of the images that are sampled.
    :returns: None where every pixel is seen.
    """
    height, width = size
    seen: np.ndarray | None = None
    for position in positions:
        if position is None:
            continue
        x, y = position
        across, down = covers(x, width), covers(y, height)
        if across.all() and down.all():
            continue
        inside = across & (down[:, None] if down.ndim == 1 else down)
        seen = inside if seen is None else seen & inside
    return None if seen is None else torch.from_numpy(seen).to(device)


def to_tensor(pixels: Tensor) -> Tensor:
    """Return (3, H, W) float32 in [0, 1], channels last, of uint8 (H, W, 3) or (H, W)."""
    if pixels.dim() == 2:
        pixels = pixels[..., None].expand(-1, -1, 3)
    return functional.hardtanh(pixels.float() * (1.0 / 255.0), 0.0, 1.0).permute(2, 0, 1)
