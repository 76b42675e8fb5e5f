# SPDX-License-Identifier: Apache-2.0
"""Folders of colour and depth."""

import numpy as np
import pytest

from dataset_files import make_depth, make_image, write_image
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.exceptions import DataError


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
