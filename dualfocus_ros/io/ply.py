# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PLY files for MeshLab, CloudCompare, Blender and Open3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualfocus_ros.io.atomic_files import write_bytes

VERTEX_DTYPE = np.dtype([('xyz', '<f4', 3), ('rgb', 'u1', 3)])


def write_ply(path: Path | str, points: np.ndarray, colours: np.ndarray) -> int:
    """Write a binary little-endian PLY with x y z and red green blue of each finite point.

    :param points: (..., 3) float metres.
    :param colours: (..., 3) uint8 RGB, or grey without the last axis.
    :returns: number of points written.
    :raises ValueError: if there are not as many colours as points.
    """
    points = points.reshape(-1, 3)
    if colours.ndim > 1 and colours.shape[-1] == 3:
        colours = colours.reshape(-1, 3)
    else:
        colours = np.repeat(colours.reshape(-1, 1), 3, axis=1)
    if len(points) != len(colours):
        raise ValueError(f'{len(points)} points but {len(colours)} colours')
    valid = np.isfinite(points).all(axis=1)
    vertices = np.empty(int(valid.sum()), VERTEX_DTYPE)
    vertices['xyz'], vertices['rgb'] = points[valid], colours[valid]
    header = (
        'ply\nformat binary_little_endian 1.0\n'
        'comment metres, optical frame: x right, y down, z forward\n'
        f'element vertex {len(vertices)}\n'
        'property float x\nproperty float y\nproperty float z\n'
        'property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n'
    )
    write_bytes(Path(path), header.encode('ascii') + vertices.tobytes())
    return len(vertices)
