# SPDX-License-Identifier: Apache-2.0
"""ARKitScenes, upsampling split: images of a phone with depth of a laser scanner."""

from __future__ import annotations

from pathlib import Path

from dualfocus_ros.datasets.options import Options
from dualfocus_ros.datasets.rgbd_pairs import pairs_dataset
from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.image_files import natural_sort_key

SIZE = (640, 480)


def open_arkitscenes(path: Path, options: Options) -> Dataset:
    """Open pairs ``VIDEO/wide/NAME.png`` and ``VIDEO/highres_depth/NAME.png``.

    Images and depth are resized to 640x480, without mixing valid and invalid depth.
    ``split=FOLDER`` is a sub-folder (default ``Validation``); ``list=FILE`` selects the pairs of a
    list with lines ``VIDEO/folder/NAME.png …``.
    """
    split = options.get('split', 'Validation')
    root = path / split if (path / split).is_dir() else path
    if 'list' in options:
        listing = path / options['list']
        if not listing.is_file():
            raise DataError(f'{listing}: no such file')
        rows = [line.split()[0].split('/') for line in listing.read_text().splitlines() if line]
        images = [root / row[0] / 'wide' / row[-1] for row in rows]
    else:
        images = sorted(
            root.glob('*/wide/*.png'), key=lambda p: (p.parts[-3], natural_sort_key(p))
        )
    pairs = [(image, image.parent.parent / 'highres_depth' / image.name) for image in images]
    pairs = [(image, depth) for image, depth in pairs if depth.is_file() and image.is_file()]
    if not pairs:
        raise DataError(f'{root}: no pairs VIDEO/wide/NAME.png and VIDEO/highres_depth/NAME.png')
    names = [f'{image.parts[-3]}/{image.stem}' for image, _ in pairs]
    description = f'ARKitScenes upsampling split, {len(pairs)} frames at 640x480'
    return pairs_dataset('ARKitScenes', 'arkitscenes', description, pairs, names, size=SIZE)
