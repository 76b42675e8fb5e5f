# SPDX-License-Identifier: Apache-2.0
"""Middlebury-FS: focal stacks rendered from stereo images with disparity."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualfocus_ros.datasets.options import Options
from dualfocus_ros.datasets.samples import Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import read_exr
from dualfocus_ros.io.image_files import read_rgb

# Pixels of disparity.
FOCUS = np.linspace(10.0, 60.0, 15)


def open_middlebury_fs(path: Path, options: Options) -> Dataset:
    """Open a folder with a list: per line 15 images, optionally an all-in-focus one, a disparity.

    The list is ``list=FILE``, or the only ``*path*.txt`` under the folder. Truth outside 10 to 60
    pixels of disparity, the range of the focus, is excluded.
    """
    lists = [path / options['list']] if 'list' in options else sorted(path.rglob('*path*.txt'))
    if len(lists) != 1 or not lists[0].is_file():
        raise DataError(f'{path}: expected one list of paths (*path*.txt), found {len(lists)}')
    rows = [line.split() for line in lists[0].read_text('utf-8').splitlines() if line.strip()]
    count = len(FOCUS)
    for row in rows:
        if len(row) < count + 1:
            raise DataError(f'{lists[0]}: expected {count} images and a disparity a line: {row}')

    def load(index: int) -> StackSample:
        row = rows[index]
        images = np.stack([read_rgb(_locate(path, name)) for name in row[:count]])
        truth = read_exr(_locate(path, row[-1]))
        inside = (truth >= FOCUS[0]) & (truth <= FOCUS[-1])
        return StackSample(
            Path(row[-1]).parent.name or f'{index:04d}',
            images,
            FOCUS,
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
