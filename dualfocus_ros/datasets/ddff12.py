# SPDX-License-Identifier: Apache-2.0
"""DDFF12: focal stacks refocused from a light-field camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualfocus_ros.datasets.options import Options
from dualfocus_ros.datasets.samples import Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5

# Disparity, with rounded ends as in published evaluations.
FOCUS = np.linspace(0.28, 0.02, 10)


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
        reason = (
            'its truth is not published' if f'stack_{split}' in file else f'got {sorted(file)}'
        )
        raise DataError(
            f'{path}: no stack_{split or "val"} with disp_{split or "val"}: {reason}; '
            f'splits with truth here: {", ".join(splits) or "none"}'
        )
    stacks, disparities = file[f'stack_{split}'], file[f'disp_{split}']
    if stacks.ndim != 5 or stacks.shape[1] != len(FOCUS) or stacks.shape[4] != 3:
        raise DataError(f'{path}: stack_{split} must be (S, 10, H, W, 3), got {stacks.shape}')

    def load(index: int) -> StackSample:
        images = np.asarray(stacks[index])
        truth = np.asarray(disparities[index], dtype=np.float32).reshape(images.shape[1:3])
        rounding = 0.5 if images.dtype.kind == 'f' else 0
        return StackSample(
            f'{split}/{index:04d}',
            np.clip(images + rounding, 0, 255).astype(np.uint8),
            FOCUS,
            'disparity',
            np.where(truth > 0.0, truth, np.nan).astype(np.float32),
        )

    description = f'DDFF12, {split} split of {path.name}, {len(stacks)} stacks, disparity'
    return Dataset('DDFF12', 'ddff12', description, len(stacks), load)
