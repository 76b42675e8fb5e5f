# SPDX-License-Identifier: Apache-2.0
"""Published focal stacks: DDFF12, FoD500 and Middlebury-FS."""

from __future__ import annotations

from pathlib import Path
import re

import numpy as np

from dualfocus_ros.datasets.samples import Dataset, Options, StackSample, choice_option
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5, read_exr
from dualfocus_ros.io.image_files import read_rgb

# Disparity, with rounded ends as in published evaluations.
DDFF12_FOCUS = np.linspace(0.28, 0.02, 10)
# Metres.
FOD500_FOCUS = np.array((0.1, 0.15, 0.3, 0.7, 1.5))
# As in the evaluation of DFV: largest depth in metres, and number of training scenes.
FOD500_LIMIT, FOD500_TRAINING_SCENES = 1.5, 400
# Pixels of disparity.
MIDDLEBURY_FOCUS = np.linspace(10.0, 60.0, 15)


def open_ddff12(path: Path, options: Options) -> Dataset:
    """Open an HDF5 file, the repack of DFV or the official one, or a folder with one file.

    Keys: ``stack_SPLIT`` (S, 10, H, W, 3) in 0 to 255 and ``disp_SPLIT`` (S, H, W). The default
    split is ``val`` if there is one, as in the repack, whose val scenes are not in train.
    """
    if path.is_dir():
        files = sorted([*path.glob('*.h5'), *path.glob('*.hdf5')])
        if len(files) != 1:
            raise DataError(f'{path}: expected one .h5 file in the folder, found {len(files)}')
        path = files[0]
    file = open_hdf5(path)
    splits = [s for s in ('val', 'test', 'train') if f'stack_{s}' in file and f'disp_{s}' in file]
    split = options.get('split', splits[0] if splits else '')
    if split not in splits:
        hidden = f'stack_{split}' in file
        reason = 'its truth is not published' if hidden else f'got {sorted(file)}'
        raise DataError(
            f'{path}: no stack_{split or "val"} with disp_{split or "val"}: {reason}; '
            f'splits with truth here: {", ".join(splits) or "none"}'
        )
    stacks, disparities = file[f'stack_{split}'], file[f'disp_{split}']
    if stacks.ndim != 5 or stacks.shape[1] != len(DDFF12_FOCUS) or stacks.shape[4] != 3:
        raise DataError(f'{path}: stack_{split} must be (S, 10, H, W, 3), got {stacks.shape}')

    def load(index: int) -> StackSample:
        images = np.asarray(stacks[index])
        truth = np.asarray(disparities[index], dtype=np.float32).reshape(images.shape[1:3])
        rounding = 0.5 if images.dtype.kind == 'f' else 0
        return StackSample(
            f'{split}/{index:04d}',
            np.clip(images + rounding, 0, 255).astype(np.uint8),
            DDFF12_FOCUS,
            'disparity',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
        )

    description = f'DDFF12, {split} split of {path.name}, {len(stacks)} stacks, disparity'
    return Dataset('DDFF12', 'ddff12', description, len(stacks), load)


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
        if split == 'all' or (number < FOD500_TRAINING_SCENES) == (split == 'train')
    ]
    if not selected:
        raise DataError(
            f'{path}: no scene of the {split} split (test starts at {FOD500_TRAINING_SCENES})'
        )

    def load(index: int) -> StackSample:
        number, images = selected[index]
        if len(images) != len(FOD500_FOCUS):
            raise DataError(f'{path}: scene {number} has {len(images)} images, expected 5')
        truth = read_exr(images[0].with_name(images[0].name.split('_')[0] + 'Dpt.exr'))
        truth = np.round(np.clip(truth, 0.0, FOD500_LIMIT) * 1e4) / 1e4
        return StackSample(
            f'{number:06d}',
            np.stack([read_rgb(image) for image in images]),
            FOD500_FOCUS,
            'metres',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
            limit=FOD500_LIMIT,
        )

    description = f'FoD500, {split} split, {len(selected)} stacks, depth clipped at 1.5 m'
    return Dataset('FoD500', 'fod500', description, len(selected), load)


def open_middlebury_fs(path: Path, options: Options) -> Dataset:
    """Open a folder with a list: per line 15 images, optionally an all-in-focus one, a disparity.

    The list is ``list=FILE``, or the only ``*path*.txt`` under the folder. Truth outside 10 to 60
    pixels of disparity, the range of the focus, is excluded.
    """
    lists = [path / options['list']] if 'list' in options else sorted(path.rglob('*path*.txt'))
    if len(lists) != 1 or not lists[0].is_file():
        raise DataError(f'{path}: expected one list of paths (*path*.txt), found {len(lists)}')
    rows = [line.split() for line in lists[0].read_text('utf-8').splitlines() if line.strip()]
    count = len(MIDDLEBURY_FOCUS)
    for row in rows:
        if len(row) < count + 1:
            raise DataError(f'{lists[0]}: expected {count} images and a disparity a line: {row}')

    def load(index: int) -> StackSample:
        row = rows[index]
        images = np.stack([read_rgb(_locate(path, name)) for name in row[:count]])
        truth = read_exr(_locate(path, row[-1]))
        inside = (truth >= MIDDLEBURY_FOCUS[0]) & (truth <= MIDDLEBURY_FOCUS[-1])
        return StackSample(
            Path(row[-1]).parent.name or f'{index:04d}',
            images,
            MIDDLEBURY_FOCUS,
            'disparity',
            np.where(inside, truth, np.nan).astype(np.float32),
        )

    description = f'Middlebury-FS, {len(rows)} stacks of 15 planes, disparity 10 to 60 px'
    return Dataset('Middlebury-FS', 'middlebury-fs', description, len(rows), load)


def _locate(folder: Path, name: str) -> Path:
    """Return the path of a listed file; lists contain absolute paths of another machine."""
    parts = [part for part in Path(name).parts if part not in ('/', '.')]
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return path
    raise DataError(f'{folder}: the listed file {name} is missing')
