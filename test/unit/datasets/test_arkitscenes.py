# SPDX-License-Identifier: Apache-2.0
"""ARKitScenes: pairs, lists and resizing."""

import numpy as np

from dataset_files import make_image, write_image
from dualfocus_ros.datasets.registry import open_dataset


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
