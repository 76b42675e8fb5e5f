# SPDX-License-Identifier: Apache-2.0
"""Point clouds from depth maps, on the device of the depth map."""

from __future__ import annotations

import torch
from torch import Tensor

from dualfocus_ros.camera.pinhole import PinholeCamera


def back_project(depth: Tensor, camera: PinholeCamera, colour: Tensor | None = None) -> Tensor:
    """Return the points of a depth map: x = (u - cx) z / fx, y = (v - cy) z / fy.

    :param depth: (H, W) metres along the optical axis.
    :param camera: intrinsics of the depth map; pixel centres have integer coordinates.
    :param colour: (H, W, 3) uint8 RGB, or None for black.
    :returns: (H, W, 4) float32: x, y, z in metres in the optical frame (x right, y down, z
        forward), NaN where depth is not finite, and the colour as 0x00RRGGBB in the bits of the
        fourth number.
    """
    height, width = depth.shape
    device = depth.device
    points = torch.empty(height, width, 4, dtype=torch.float32, device=device)
    z = torch.where(torch.isfinite(depth), depth.float(), torch.nan)
    columns = (torch.arange(width, dtype=torch.float32, device=device) - camera.cx) / camera.fx
    rows = (torch.arange(height, dtype=torch.float32, device=device) - camera.cy) / camera.fy
    torch.mul(z, columns, out=points[..., 0])
    torch.mul(z, rows[:, None], out=points[..., 1])
    points[..., 2] = z
    packed = points.view(torch.int32)[..., 3]
    if colour is None:
        packed.zero_()
    else:
        red, green, blue = colour.to(torch.int32).unbind(dim=-1)
        packed.copy_((red << 16) | (green << 8) | blue)
    return points


def decimate_stride(points: Tensor, stride: int) -> Tensor:
    """Return every ``stride``-th point of every ``stride``-th row that is finite, (M, 4).

    :param points: (H, W, 4) as ``back_project`` returns them.
    :raises ValueError: for a stride below 1.
    """
    if stride < 1:
        raise ValueError(f'the stride must be at least 1, got {stride}')
    # Start half a stride in, to centre the points in their cells.
    coarse = points[stride // 2 :: stride, stride // 2 :: stride].reshape(-1, 4)
    return coarse[torch.isfinite(coarse[:, 2])]


def decimate_voxel(points: Tensor, size: float) -> Tensor:
    """Return the mean of the points in each cube of ``size`` metres, (M, 4).

    The colour is that of one of the points in the cube.

    :param points: (..., 4) as ``back_project`` returns them.
    :raises ValueError: for a size that is not positive.
    """
    if not size > 0.0:
        raise ValueError(f'the voxel size must be positive, got {size}')
    points = points.reshape(-1, 4)
    points = points[torch.isfinite(points[:, 2])]
    if len(points) == 0:
        return points
    cells = torch.floor(points[:, :3] / size).to(torch.int64)
    cells -= cells.amin(dim=0)
    # One integer per cell sorts twenty times as fast as rows of three.
    extent = cells.amax(dim=0) + 1
    keys = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    _, inverse, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), 3, dtype=torch.float64, device=points.device)
    sums.index_add_(0, inverse, points[:, :3].double())
    reduced = torch.empty(len(counts), 4, dtype=torch.float32, device=points.device)
    reduced[:, :3] = sums / counts[:, None]
    # Copy the bits of the colour as integers: as floats they are denormal numbers.
    colour = torch.empty(len(counts), dtype=torch.int32, device=points.device)
    colour[inverse] = points.view(torch.int32)[:, 3]
    reduced.view(torch.int32)[:, 3] = colour
    return reduced
