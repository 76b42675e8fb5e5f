# SPDX-License-Identifier: Apache-2.0
"""Points against a textbook back-projection in NumPy."""

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.inference.point_cloud import back_project, decimate_stride, decimate_voxel

CAMERA = PinholeCamera(8, 6, 510.0, 505.0, 3.7, 2.4)


@pytest.fixture
def depth():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(6, 8, generator=generator) * 4.0 + 0.3


def textbook(depth, camera):
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(float)
    z = depth.astype(float)
    return np.stack(((u - camera.cx) * z / camera.fx, (v - camera.cy) * z / camera.fy, z), axis=-1)


def test_points_match_a_textbook_back_projection(depth):
    points = back_project(depth, CAMERA).numpy()
    assert points.shape == (6, 8, 4)
    assert points.dtype == np.float32
    np.testing.assert_allclose(
        points[..., :3], textbook(depth.numpy(), CAMERA), rtol=1e-6, atol=1e-7
    )


@pytest.mark.fault(11)
@pytest.mark.parametrize('invalid', [float('nan'), float('inf'), float('-inf')])
def test_invalid_depth_gives_nan_points(depth, invalid):
    depth[2, 3] = invalid
    points = back_project(depth, CAMERA)
    assert torch.isnan(points[2, 3, :3]).all()
    finite = torch.isfinite(points[..., :3]).all(dim=-1)
    assert int((~finite).sum()) == 1


def test_colour_is_packed_as_0x00rrggbb(depth):
    colour = torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8)
    packed = back_project(depth, CAMERA, colour).numpy().view(np.uint32)[..., 3]
    red, green, blue = colour.numpy().astype(np.uint32).transpose(2, 0, 1)
    np.testing.assert_array_equal(packed, red << 16 | green << 8 | blue)


def test_without_colour_the_fourth_value_is_zero(depth):
    assert (back_project(depth, CAMERA).numpy().view(np.uint32)[..., 3] == 0).all()


def test_stride_takes_every_nth_finite_point(depth):
    depth[1, 1] = float('nan')
    points = back_project(depth, CAMERA)
    reduced = decimate_stride(points, 2)
    assert reduced.shape == (3 * 4 - 1, 4)
    np.testing.assert_array_equal(reduced[0], points[1, 3])


def test_stride_one_keeps_all_finite_points(depth):
    assert len(decimate_stride(back_project(depth, CAMERA), 1)) == depth.numel()


def test_voxels_hold_the_mean_of_their_points():
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-1.0, 2.0, (500, 4)).astype(np.float32)
    cloud[:, 3] = np.uint32(0x112233).view(np.float32)
    cloud[7, :3] = np.nan
    reduced = decimate_voxel(torch.from_numpy(cloud), 0.5).numpy()

    cells = {}
    for point in cloud[np.isfinite(cloud[:, 2])]:
        cells.setdefault(tuple(np.floor(point[:3] / np.float32(0.5)).astype(int)), []).append(
            point[:3].astype(float)
        )
    expected = np.array(sorted(np.mean(points, axis=0).tolist() for points in cells.values()))
    np.testing.assert_allclose(np.array(sorted(reduced[:, :3].tolist())), expected, rtol=1e-5)
    assert (reduced.view(np.uint32)[:, 3] == 0x112233).all()


def test_no_points_give_no_voxels():
    empty = torch.full((4, 5, 4), float('nan'))
    assert decimate_voxel(empty, 0.1).shape == (0, 4)
    assert decimate_stride(empty, 2).shape == (0, 4)


@pytest.mark.parametrize('stride', [0, -1])
def test_rejects_a_stride_below_one(stride):
    with pytest.raises(ValueError, match='at least 1'):
        decimate_stride(torch.zeros(2, 2, 4), stride)


@pytest.mark.parametrize('size', [0.0, -0.1, float('nan')])
def test_rejects_a_voxel_size_of_zero_or_less(size):
    with pytest.raises(ValueError, match='positive'):
        decimate_voxel(torch.zeros(2, 2, 4), size)
