# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PLY files."""

import numpy as np
import pytest

from dualfocus_ros.io.ply import write_ply


def test_ply_header_and_vertices(tmp_path):
    v, u = np.indices((3, 4), dtype=np.float32)
    depth = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    depth[0, 1], depth[2, 2] = np.nan, np.inf
    colours = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    points = np.stack([(u - 1.5) * depth / 10.0, (v - 1.0) * depth / 20.0, depth], axis=-1)
    assert write_ply(tmp_path / 'cloud.ply', points, colours) == 10

    data = (tmp_path / 'cloud.ply').read_bytes()
    header, body = data.split(b'end_header\n', 1)
    lines = header.decode('ascii').splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    assert 'element vertex 10' in lines
    assert [line.split()[1:] for line in lines if line.startswith('property')] == [
        ['float', 'x'],
        ['float', 'y'],
        ['float', 'z'],
        ['uchar', 'red'],
        ['uchar', 'green'],
        ['uchar', 'blue'],
    ]
    layout = np.dtype([('p', '<f4', 3), ('c', 'u1', 3)])
    vertices = np.frombuffer(body, layout)
    assert len(vertices) == 10 and len(body) == 150
    # The last pixel (u 3, v 2) at 12 m: x = 1.5 * 12 / 10, y = 1 * 12 / 20.
    assert vertices['p'][-1] == pytest.approx([1.8, 0.6, 12.0])
    assert list(vertices['c'][-1]) == [33, 34, 35]
    assert list(vertices['c'][1]) == [6, 7, 8]  # the invalid second pixel is left out


def test_ply_of_grey_and_of_no_points(tmp_path):
    points = np.full((2, 2, 3), np.nan, np.float32)
    assert write_ply(tmp_path / 'none.ply', points, np.zeros((2, 2), np.uint8)) == 0
    points[0] = 1.0
    assert write_ply(tmp_path / 'grey.ply', points, np.full((2, 2), 7, np.uint8)) == 2
    with pytest.raises(ValueError, match='4 points but 3 colours'):
        write_ply(tmp_path / 'bad.ply', points, np.zeros((3, 3), np.uint8))
