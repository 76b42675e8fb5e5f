# SPDX-License-Identifier: Apache-2.0
"""FoD500: focal stacks rendered from synthetic scenes."""

from __future__ import annotations

from pathlib import Path
import re

import numpy as np

from dualfocus_ros.datasets.options import Options, choice_option
from dualfocus_ros.datasets.samples import Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import read_exr
from dualfocus_ros.io.image_files import read_rgb

# Metres.
FOCUS = (0.1, 0.15, 0.3, 0.7, 1.5)
# As in the evaluation of DFV: largest depth in metres, and number of training scenes.
DEPTH_LIMIT = 1.5
TRAINING_SCENES = 400


def open_fod500(path: Path, options: Options) -> Dataset:
    """Open the layout ``fs_6``: five ``NNNNNN_xxAll.tif`` and ``NNNNNNDpt.exr`` per scene.

    ``split=test`` (scenes from 400, the default), ``train`` or ``all``. Truth and estimates are
    clipped at 1.5 m as in the evaluation of DFV; truth is rounded to 0.1 mm.
    """
    split = choice_option(options, 'split', 'test', ('test', 'train', 'all'))
    scenes: dict[int, list[Path]] = {}
    for image in sorted(path.glob('*All.tif')):
        found = re.match(r'(\d+)_', image.name)
        if found:
            scenes.setdefault(int(found[1]), []).append(image)
    if not scenes:
        raise DataError(f'{path}: no files NNNNNN_xxAll.tif (the layout fs_6 of FoD500)')
    selected = [
        (number, images)
        for number, images in sorted(scenes.items())
        if split == 'all' or (number < TRAINING_SCENES) == (split == 'train')
    ]
    if not selected:
        raise DataError(
            f'{path}: no scene of the {split} split (test starts at {TRAINING_SCENES})'
        )

    def load(index: int) -> StackSample:
        number, images = selected[index]
        if len(images) != len(FOCUS):
            raise DataError(f'{path}: scene {number} has {len(images)} images, expected 5')
        truth = read_exr(images[0].with_name(images[0].name.split('_')[0] + 'Dpt.exr'))
        truth = np.round(np.clip(truth, 0.0, DEPTH_LIMIT) * 1e4) / 1e4
        return StackSample(
            f'{number:06d}',
            np.stack([read_rgb(image) for image in images]),
            np.array(FOCUS),
            'metres',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
            limit=DEPTH_LIMIT,
        )

    description = (
        f'FoD500, {split} split, {len(selected)} stacks, depth clipped at {DEPTH_LIMIT} m'
    )
    return Dataset('FoD500', 'fod500', description, len(selected), load)
