# SPDX-License-Identifier: Apache-2.0
"""Middlebury-FS: lists with paths of another machine."""

import numpy as np

from dataset_files import SHAPE, make_image, write_exr, write_image
from dualfocus_ros.datasets.registry import open_dataset


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
