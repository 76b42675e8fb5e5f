# SPDX-License-Identifier: Apache-2.0
"""DDFF12: repack and official file."""

import numpy as np
import pytest

from dataset_files import RNG, SHAPE
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
