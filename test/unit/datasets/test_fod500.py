# SPDX-License-Identifier: Apache-2.0
"""FoD500: splits and clipping."""

import numpy as np
import pytest

from dataset_files import SHAPE, make_image, write_exr, write_image
from dualfocus_ros.datasets.registry import open_dataset


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
