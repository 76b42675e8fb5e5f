# SPDX-License-Identifier: Apache-2.0
"""Resampling of planes to the geometry of the reference plane, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.alignment.registration import covers

# Columns (W,) and rows (H,), or both (H, W), in pixels; None for unchanged positions.
SourcePositions = tuple[np.ndarray, np.ndarray] | None


def to_tensor(pixels: Tensor) -> Tensor:
    """Return (3, H, W) float32 in [0, 1], channels last, of uint8 (H, W, 3) or (H, W)."""
    if pixels.dim() == 2:
        pixels = pixels[..., None].expand(-1, -1, 3)
    return functional.hardtanh(pixels.float() * (1.0 / 255.0), 0.0, 1.0).permute(2, 0, 1)


def resample_plane(image: Tensor, positions: SourcePositions, mode: str = 'bicubic') -> Tensor:
    """Return an image (C, H, W) in [0, 1] sampled at positions, its edge repeated beyond it."""
    if positions is None:
        return image
    grid = sampling_grid(positions, (image.shape[-2], image.shape[-1]), image.device)
    sampled = functional.grid_sample(
        image[None], grid[None], mode=mode, padding_mode='border', align_corners=True
    )[0]
    return sampled.clamp_(0.0, 1.0)


def resample_masks(
    masks: Sequence[np.ndarray | None],
    positions: Sequence[SourcePositions],
    size: tuple[int, int],
    device: torch.device,
) -> Tensor | None:
    """Resample masks of planes, (H, W) uint8 of 0 and 1 or None for an empty mask.

    :returns: (N, H, W) float32 of the given size; None if all masks are empty.
    """
    if all(mask is None for mask in masks):
        return None
    resampled = torch.zeros(len(masks), *size, device=device)
    for mask, position, plane in zip(masks, positions, resampled, strict=True):
        if mask is not None:
            values = torch.from_numpy(mask).to(resampled)[None]
            plane.copy_(resample_plane(values, position, 'nearest')[0])
    return resampled


def common_valid_mask(
    positions: Sequence[SourcePositions], size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Return the pixels that every plane covers, (H, W) bool; None if each pixel is covered."""
    height, width = size
    valid: np.ndarray | None = None
    for position in positions:
        if position is None:
            continue
        across, down = covers(position[0], width), covers(position[1], height)
        if across.all() and down.all():
            continue
        inside = across & (down[:, None] if down.ndim == 1 else down)
        valid = inside if valid is None else valid & inside
    return None if valid is None else torch.from_numpy(valid).to(device)


def sampling_grid(
    positions: tuple[np.ndarray, np.ndarray], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Return positions in the form of ``grid_sample``: (H, W, 2), x and y from -1 to 1.

    :param size: height and width of the sampled image; -1 and 1 are the centres of its outermost
        pixels.
    """
    height, width = size
    columns, rows = (torch.from_numpy(values).to(device) for values in positions)
    x = columns * (2.0 / max(width - 1, 1)) - 1.0
    y = rows * (2.0 / max(height - 1, 1)) - 1.0
    if columns.dim() == 1:
        x, y = x.expand(len(rows), -1), y[:, None].expand(-1, len(columns))
    return torch.stack([x, y], dim=-1)
