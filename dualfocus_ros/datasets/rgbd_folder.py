# SPDX-License-Identifier: Apache-2.0
"""Any folder of colour images with depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import re

import numpy as np

from dualfocus_ros.datasets.options import Options, number_option
from dualfocus_ros.datasets.rgbd_pairs import Pair, pairs_dataset
from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, natural_sort_key

DEPTH_SUFFIXES = ('.png', '.npy', '.exr', '.tif', '.tiff', '.pgm')
DEPTH_FOLDERS = ('depth', 'depths', 'highres_depth')
IMAGE_FOLDERS = ('image', 'images', 'color', 'colour', 'rgb', 'wide')


def open_rgbd_folder(path: Path, options: Options) -> Dataset:
    """Open a folder of colour and depth: two sub-folders, or names with ``color`` and ``depth``.

    Depth is PNG in mm (0 and 65535 invalid), or ``.npy`` or ``.exr`` in metres, times
    ``depth-scale``. Pairs match by name without those words, else by their order if there are as
    many images as depth maps.
    """
    depth_folder = _subfolder(path, DEPTH_FOLDERS)
    image_folder = _subfolder(path, IMAGE_FOLDERS)
    if depth_folder is not None and image_folder is not None:
        images = _files(image_folder, IMAGE_SUFFIXES)
        depths = _files(depth_folder, DEPTH_SUFFIXES)
    else:
        files = _files(path, (*IMAGE_SUFFIXES, *DEPTH_SUFFIXES))
        depths = [p for p in files if 'depth' in p.name.lower() or p.suffix == '.npy']
        images = [p for p in files if p not in depths and p.suffix.lower() in IMAGE_SUFFIXES]
    pairs = _match_pairs(images, depths, path)
    scale = np.float32(number_option(options, 'depth-scale', 1.0))
    return pairs_dataset(
        path.name,
        'rgbd',
        f'{len(pairs)} RGB-D frames of {path.name}',
        pairs,
        [_key(image) for image, _ in pairs],
        clean=lambda depth: depth * scale,
    )


def _match_pairs(images: Sequence[Path], depths: Sequence[Path], folder: Path) -> list[Pair]:
    by_key = {_key(path): path for path in depths}
    pairs = [(path, by_key[_key(path)]) for path in images if _key(path) in by_key]
    if pairs:
        return pairs
    if not images or len(images) != len(depths):
        raise DataError(
            f'{folder}: {len(images)} colour images and {len(depths)} depth maps whose names do '
            "not match; expected sub-folders 'image' and 'depth', or names such as 7.color.jpg "
            'and 7.depth.png'
        )
    return list(zip(images, depths))


def _key(path: Path) -> str:
    """Return the name of a file without the words for colour and depth."""
    name = path.name.lower().rsplit('.', 1)[0]
    return re.sub(r'(colou?r|rgb|image|depth)', '', name).strip('._-') or name


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    found = {path for path in folder.iterdir() if path.suffix.lower() in suffixes}
    return sorted(found, key=natural_sort_key)
