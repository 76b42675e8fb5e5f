# SPDX-License-Identifier: Apache-2.0
"""Published focal stacks: DDFF12, FoD500 and Middlebury-FS."""

import numpy as np
import pytest

from dataset_files import RNG, SHAPE, make_image, write_exr, write_image
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.exceptions import DataError


@pytest.mark.parametrize('official', [False, True])
def test_stacks_disparities_and_splits_are_read(tmp_path, official):
    h5py = pytest.importorskip('h5py')
    split = 'train' if official else 'val'
    stack = RNG.integers(0, 256, (2, 10, *SHAPE, 3)).astype(np.float32 if official else np.uint8)
    disparity = RNG.uniform(0.02, 0.28, (2, *SHAPE)).astype(np.float32)
    disparity[0, 0, 0] = 0.0
    with h5py.File(tmp_path / 'ddff.h5', 'w') as file:
        file[f'stack_{split}'] = stack
        file[f'disp_{split}'] = disparity[:, None] if official else disparity
        file['stack_test'] = stack
    dataset = open_dataset(f'ddff12:{tmp_path / "ddff.h5"}')
    sample = dataset[0]
    assert len(dataset) == 2 and sample.unit == 'disparity'
    assert sample.focus[[0, -1]] == pytest.approx([0.28, 0.02])
    np.testing.assert_array_equal(sample.images, stack[0].astype(np.uint8))
    assert np.isnan(sample.truth[0, 0]) and sample.truth[3, 3] == disparity[0, 3, 3]
    with pytest.raises(DataError, match='truth is not published'):
        open_dataset(f'ddff12:{tmp_path / "ddff.h5"},split=test')


def test_missing_h5py_is_named_with_its_install_command(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'h5py', None)
    (tmp_path / 'a.h5').write_bytes(b'')
    with pytest.raises(DataError, match='pip install h5py'):
        open_dataset(f'ddff12:{tmp_path / "a.h5"}')


def test_splits_are_disjoint_and_depth_is_clipped(tmp_path):
    depth = np.full(SHAPE, 0.4, np.float16)
    depth[0, 0], depth[0, 1] = 2.5, 0.0
    for scene in (399, 400):
        for n in range(5):
            write_image(tmp_path / f'{scene:06d}_{n:02d}All.tif', make_image(value=10 * n))
        write_exr(tmp_path / f'{scene:06d}Dpt.exr', depth)
    dataset = open_dataset(f'fod500:{tmp_path}')
    sample = dataset[0]
    assert len(dataset) == 1 and sample.name == '000400'
    assert sample.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert sample.focus.tolist() == [0.1, 0.15, 0.3, 0.7, 1.5]
    assert sample.truth[0, 0] == 1.5 and np.isnan(sample.truth[0, 1])
    assert sample.truth[5, 5] == pytest.approx(0.4, abs=1e-3)
    assert open_dataset(f'fod500:{tmp_path},split=train')[0].name == '000399'


def test_listed_files_are_found_in_the_folder(tmp_path):
    scene = tmp_path / 'Adirondack'
    for n in range(15):
        write_image(scene / f'{n:02d}.png', make_image(value=n))
    disparity = np.full(SHAPE, 30.0, np.float32)
    disparity[0, 0] = 80.0
    write_exr(scene / 'disp.exr', disparity)
    names = [f'/their/disk/Adirondack/{n:02d}.png' for n in range(15)]
    row = ' '.join([*names, '/their/disk/Adirondack/AiF.png', '/their/disk/Adirondack/disp.exr'])
    (tmp_path / 'Middlebury_path.txt').write_text(row)
    sample = open_dataset(f'middlebury-fs:{tmp_path}')[0]
    assert sample.name == 'Adirondack' and len(sample.images) == 15
    assert sample.focus[[0, -1]].tolist() == [10.0, 60.0]
    assert np.isnan(sample.truth[0, 0]) and sample.truth[1, 1] == 30.0
