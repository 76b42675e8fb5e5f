# SPDX-License-Identifier: Apache-2.0
"""Pairs of colour and depth: NYUv2, ARKitScenes and folders."""

import numpy as np
import pytest

from dataset_files import make_depth, make_image, write_image
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.exceptions import DataError


def test_export_pairs_images_with_depth_within_range(tmp_path):
    far = make_depth()
    far[5, 5] = 12000
    write_image(tmp_path / 'kitchen' / 'rgb_00002.png', make_image())
    write_image(tmp_path / 'kitchen' / 'sync_depth_00002.png', far)
    write_image(tmp_path / 'kitchen' / 'rgb_00003.png', make_image())  # without depth: left out
    dataset = open_dataset(f'nyu:{tmp_path}')
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.name == 'kitchen/rgb_00002.png'
    assert sample.depth[3, 3] == pytest.approx(far[3, 3] / 1000)
    assert np.isnan(sample.depth[[0, 0, 5], [0, 1, 5]]).all()


def test_list_determines_pairs_and_order(tmp_path):
    for name in ('a/rgb_00001', 'b/rgb_00001', 'c/rgb_00001'):
        write_image(tmp_path / 'test' / f'{name}.jpg', make_image())
        write_image(tmp_path / 'test' / f'{name.replace("rgb", "sync_depth")}.png', make_depth())
    rows = [f'{s}/rgb_00001.jpg {s}/sync_depth_00001.png 518.8579' for s in ('c', 'a')]
    (tmp_path / 'nyudepthv2_test_files_with_gt.txt').write_text('\n'.join(rows))
    dataset = open_dataset(f'nyu:{tmp_path}')
    assert [dataset[i].name for i in range(len(dataset))] == [
        'test/c/rgb_00001.jpg',
        'test/a/rgb_00001.jpg',
    ]
    (tmp_path / 'nyudepthv2_test_files_with_gt.txt').write_text('d/rgb_1.jpg d/depth_1.png 518')
    with pytest.raises(DataError, match=r'd/rgb_1\.jpg'):
        open_dataset(f'nyu:{tmp_path}')


def test_labelled_file_is_transposed_and_split(tmp_path):
    h5py = pytest.importorskip('h5py')
    scipy_io = pytest.importorskip('scipy.io')
    images = [make_image() for _ in range(3)]
    with h5py.File(tmp_path / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = np.stack([image.transpose(2, 1, 0) for image in images])
        file['depths'] = np.stack([(make_depth() / 1000.0).T + i for i in range(3)])
    path = tmp_path / 'nyu_depth_v2_labeled.mat'
    assert len(open_dataset(f'nyu:{path}')) == 3
    scipy_io.savemat(tmp_path / 'splits.mat', {'testNdxs': np.array([[2], [3]])})
    dataset = open_dataset(f'nyu:{path}')
    assert 'official test split' in dataset.description
    assert len(dataset) == 2
    np.testing.assert_array_equal(dataset[0].colour, images[1])
    assert dataset[0].depth[4, 7] == pytest.approx(make_depth()[4, 7] / 1000 + 1)


def test_resizing_does_not_mix_holes_into_depth(tmp_path):
    depth = np.full((1440, 1920), 2000, np.uint16)
    depth[:, :960] = 0
    video = tmp_path / 'Validation' / '41048190'
    write_image(video / 'wide' / '41048190_3414.8.png', make_image((1440, 1920), 90))
    write_image(video / 'highres_depth' / '41048190_3414.8.png', depth)
    sample = open_dataset(f'arkitscenes:{tmp_path}')[0]
    assert sample.colour.shape == (480, 640, 3)
    assert np.isnan(sample.depth[:, :320]).all()
    assert (sample.depth[:, 320:] == 2.0).all()
    (tmp_path / 'short.txt').write_text('41048190/lowres_wide/41048190_3414.8.png x\n')
    assert len(open_dataset(f'arkitscenes:{tmp_path},list=short.txt')) == 1


@pytest.mark.parametrize(
    ('colour', 'depth'),
    [
        ('image/7.png', 'depth/7.npy'),
        ('frame-7.color.png', 'frame-7.depth.png'),
        ('rgb/first.png', 'depth/other.png'),
    ],
)
def test_pairs_match_in_each_layout(tmp_path, colour, depth):
    values = make_depth(holes=not depth.endswith('npy'))
    write_image(tmp_path / colour, make_image(value=50))
    if depth.endswith('npy'):
        (tmp_path / depth).parent.mkdir()
        np.save(tmp_path / depth, values / 1000.0)
    else:
        write_image(tmp_path / depth, values)
    sample = open_dataset(f'rgbd:{tmp_path}')[0]
    assert isinstance(sample, RgbdSample)
    assert sample.depth[9, 9] == pytest.approx(values[9, 9] / 1000)
    if not depth.endswith('npy'):
        assert np.isnan(sample.depth[0, :2]).all()


def test_unmatched_pairs_raise(tmp_path):
    write_image(tmp_path / 'image' / 'a.png', make_image())
    write_image(tmp_path / 'image' / 'b.png', make_image())
    write_image(tmp_path / 'depth' / 'c.png', make_depth())
    with pytest.raises(DataError, match='2 colour images and 1 depth maps'):
        open_dataset(f'rgbd:{tmp_path}')
