# SPDX-License-Identifier: Apache-2.0
"""Brings every plane of a stack into the geometry of its reference plane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.optics.camera import PinholeCamera

# Below this displacement at the image corner, in pixels, resampling blurs more than it mends.
NEGLIGIBLE_SHIFT = 0.05


def breathing_positions(
    size: tuple[int, int], scales: list[float], reference: int, camera: PinholeCamera | None,
    device: torch.device,
) -> list[tuple[Tensor, Tensor] | None]:
    """Return where the pixels of the reference plane lie in planes whose lens breathes.

    A point at offset r from the principal point in the reference plane lies at
    r * scale_n / scale_ref in plane n (method: thin lens, scale proportional to v(s)).

    :param size: height and width.
    :param scales: image scale of each plane, in any common unit.
    :param camera: gives the principal point; the image centre when None.
    :returns: for each plane the columns (W,) and rows (H,), float32; None where they are the
        same but for a negligible shift.
    """
    height, width = size
    cx, cy = (camera.cx, camera.cy) if camera else (0.5 * (width - 1), 0.5 * (height - 1))
    reach = max(cx, cy, width - 1 - cx, height - 1 - cy)
    positions: list[tuple[Tensor, Tensor] | None] = []
    for scale in scales:
        ratio = scale / scales[reference]
        if abs(ratio - 1.0) * reach < NEGLIGIBLE_SHIFT:
            positions.append(None)
            continue
        x = (torch.arange(width, device=device) - cx) * ratio + cx
        y = (torch.arange(height, device=device) - cy) * ratio + cy
        positions.append((x.float(), y.float()))
    return positions


def resample_planes(
    images: Tensor, positions: Sequence[tuple[Tensor, Tensor] | None]
) -> Tensor:
    """Return the planes, (N, C, H, W), at the positions that ``breathing_positions`` gave."""
    out = images
    for n, position in enumerate(positions):
        if position is None:
            continue
        if out is images:
            out = images.clone()
        x, y = position
        out[n] = _resample_axes(images[n], x.to(images.dtype), y.to(images.dtype))
    return out


def _resample_axes(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Resample (C, H, W) at columns x and rows y by separable cubic interpolation.

    Scaling about a point is separable: two small passes instead of a 16-tap gather a pixel.
    """
    image = _resample_last(image, x)
    return _resample_last(image.transpose(-1, -2), y).transpose(-1, -2).clamp(0.0, 1.0)


def _resample_last(image: Tensor, at: Tensor) -> Tensor:
    """Catmull-Rom interpolation of the last axis at fractional positions, edges replicated."""
    size = image.shape[-1]
    base = at.floor()
    t = at - base
    index = base.long()
    weights = (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    out = torch.zeros(*image.shape[:-1], len(at), dtype=image.dtype, device=image.device)
    for offset, weight in zip((-1, 0, 1, 2), weights):
        out.addcmul_(image.index_select(-1, (index + offset).clamp(0, size - 1)), weight)
    return out


def to_tensor(images: list, device: torch.device) -> Tensor:
    """Return (N, 3, H, W) float32 in [0, 1] of uint8 (H, W, 3) or (H, W) arrays."""
    planes = torch.stack([torch.from_numpy(image) for image in images]).to(device)
    if planes.dim() == 3:
        planes = planes[..., None].expand(-1, -1, -1, 3)
    planes = planes.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return functional.hardtanh(planes.float() * (1.0 / 255.0), 0.0, 1.0)
