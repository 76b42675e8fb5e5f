# SPDX-License-Identifier: Apache-2.0
"""Published sets of focal stacks: FoD500, DDFF12, Middlebury-FS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import re

import numpy as np

from dualfocus_ros.datasets.samples import Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5, read_exr
from dualfocus_ros.io.image_files import read_rgb

FOD_FOCUS = (0.1, 0.15, 0.3, 0.7, 1.5)
# DFV clips truth and estimates of FoD500 here, and keeps the scenes before this for training.
FOD_LIMIT = 1.5
FOD_TRAIN = 400
# Rounded ends, as the published evaluations use them.
DDFF_FOCUS = np.linspace(0.28, 0.02, 10)
MIDDLEBURY_FOCUS = np.linspace(10.0, 60.0, 15)


def open_fod500(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open FoD500 (``fs_6``): ``NNNNNN_xxAll.tif`` five times and ``NNNNNNDpt.exr`` per scene.

    ``split=test`` (scenes from 400, the default), ``train`` or ``all``. Truth and estimates are
    clipped at 1.5 m as in the evaluation of DFV, and rounded to 0.1 mm.
    """
    split = options.get('split', 'test')
    if split not in ('test', 'train', 'all'):
        raise DataError(f"split must be test, train or all, got '{split}'")
    scenes: dict[int, list[Path]] = {}
    for path in sorted(place.glob('*All.tif')):
        found = re.match(r'(\d+)_', path.name)
        if found:
            scenes.setdefault(int(found[1]), []).append(path)
    if not scenes:
        raise DataError(f'{place}: no files NNNNNN_xxAll.tif (the layout fs_6 of FoD500)')
    chosen = [
        (number, paths)
        for number, paths in sorted(scenes.items())
        if split == 'all' or (number < FOD_TRAIN) == (split == 'train')
    ]
    if not chosen:
        raise DataError(f'{place}: no scene of the {split} split (test starts at {FOD_TRAIN})')

    def load(index: int) -> StackSample:
        number, paths = chosen[index]
        if len(paths) != len(FOD_FOCUS):
            raise DataError(f'{place}: scene {number} has {len(paths)} images, expected 5')
        truth = read_exr(paths[0].with_name(paths[0].name.split('_')[0] + 'Dpt.exr'))
        truth = np.round(np.clip(truth, 0.0, FOD_LIMIT) * 1e4) / 1e4
        return StackSample(
            f'{number:06d}',
            np.stack([read_rgb(path) for path in paths]),
            np.array(FOD_FOCUS),
            'metres',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
            limit=FOD_LIMIT,
        )

    about = f'FoD500, {split} split, {len(chosen)} stacks, depth clipped at {FOD_LIMIT} m'
    return Dataset('FoD500', 'fod500', about, len(chosen), load)


def open_ddff12(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open an HDF5 file of DDFF12: the repack of DFV or the official one.

    Keys ``stack_SPLIT`` (S, 10, H, W, 3) in 0 to 255 and ``disp_SPLIT`` (S, H, W). ``split=val``
    by default where there is one, as in the repack, whose val scenes are not in train.
    """
    path = place
    if place.is_dir():
        files = sorted([*place.glob('*.h5'), *place.glob('*.hdf5')])
        if len(files) != 1:
            raise DataError(f'{place}: expected one .h5 file in the folder, found {len(files)}')
        path = files[0]
    file = open_hdf5(path)
    have = [s for s in ('val', 'test', 'train') if f'stack_{s}' in file and f'disp_{s}' in file]
    split = options.get('split', have[0] if have else '')
    if split not in have:
        reason = (
            'its truth is not published' if f'stack_{split}' in file else f'got {sorted(file)}'
        )
        raise DataError(
            f'{path}: no stack_{split or "val"} with disp_{split or "val"}: {reason}; '
            f'splits with truth here: {", ".join(have) or "none"}'
        )
    stacks, disparities = file[f'stack_{split}'], file[f'disp_{split}']
    if stacks.ndim != 5 or stacks.shape[1] != len(DDFF_FOCUS) or stacks.shape[4] != 3:
        raise DataError(f'{path}: stack_{split} must be (S, 10, H, W, 3), got {stacks.shape}')

    def load(index: int) -> StackSample:
        images = np.asarray(stacks[index])
        truth = np.asarray(disparities[index], dtype=np.float32).reshape(images.shape[1:3])
        return StackSample(
            f'{split}/{index:04d}',
            np.clip(images + (0.5 if images.dtype.kind == 'f' else 0), 0, 255).astype(np.uint8),
            DDFF_FOCUS,
            'disparity',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
        )

    about = f'DDFF12, {split} split of {path.name}, {len(stacks)} stacks, disparity'
    return Dataset('DDFF12', 'ddff12', about, len(stacks), load)


def open_middlebury_fs(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open Middlebury-FS: a list with 15 images, possibly an all-in-focus one, and a disparity.

    The list is ``list=FILE`` or the only ``*path*.txt`` under the folder. Focus is
    linspace(10, 60, 15) px of disparity, and truth outside that range is not counted.
    """
    lists = [place / options['list']] if 'list' in options else sorted(place.rglob('*path*.txt'))
    if len(lists) != 1 or not lists[0].is_file():
        raise DataError(f'{place}: expected one list of paths (*path*.txt), found {len(lists)}')
    rows = [line.split() for line in lists[0].read_text('utf-8').splitlines() if line.strip()]
    count = len(MIDDLEBURY_FOCUS)
    for row in rows:
        if len(row) < count + 1:
            raise DataError(f'{lists[0]}: expected {count} images and a disparity a line: {row}')

    def load(index: int) -> StackSample:
        row = rows[index]
        images = np.stack([read_rgb(_locate(place, name)) for name in row[:count]])
        truth = read_exr(_locate(place, row[-1]))
        inside = (truth >= MIDDLEBURY_FOCUS[0]) & (truth <= MIDDLEBURY_FOCUS[-1])
        return StackSample(
            Path(row[-1]).parent.name or f'{index:04d}',
            images,
            MIDDLEBURY_FOCUS,
            'disparity',
            np.where(inside, truth, np.nan).astype(np.float32),
        )

    about = f'Middlebury-FS, {len(rows)} stacks of 15 planes, disparity 10 to 60 px'
    return Dataset('Middlebury-FS', 'middlebury-fs', about, len(rows), load)


def _locate(place: Path, name: str) -> Path:
    """Find a listed file: lists keep the paths of the machine that they were made on."""
    parts = [part for part in Path(name).parts if part not in ('/', '.')]
    for start in range(len(parts)):
        path = place.joinpath(*parts[start:])
        if path.is_file():
            return path
    raise DataError(f'{place}: the listed file {name} is not there')
