# SPDX-License-Identifier: Apache-2.0
"""NYUv2: images with depth of a structured-light sensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualfocus_ros.datasets.options import Options
from dualfocus_ros.datasets.rgbd_pairs import Pair, pairs_dataset
from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5

# Open interval of depths, in metres, in published evaluations.
DEPTH_RANGE = (1e-3, 10.0)
# Folders of the export that may hold the listed files.
_BASE_FOLDERS = ('', 'test', 'train', 'sync', 'official_splits/test', 'official_splits/train')


def open_nyu(path: Path, options: Options) -> Dataset:
    """Open NYUv2: the ``sync`` export of BTS, or the labelled ``.mat`` file.

    The export has pairs ``SCENE/rgb_NNNNN.jpg`` and ``SCENE/sync_depth_NNNNN.png`` (mm).
    ``list=FILE`` selects the pairs of a list with lines ``rgb depth [focal]``; the default is a
    list ``nyu*test*.txt`` in the folder, else all pairs. Of the ``.mat`` file, the official test
    split is taken if ``splits.mat`` is in the same folder, else all images.
    """
    if path.suffix == '.mat':
        return _open_labelled(path)
    lists = [path / options['list']] if 'list' in options else sorted(path.glob('nyu*test*.txt'))
    if lists:
        pairs = _listed_pairs(path, lists[0])
        description = f'{len(pairs)} pairs of {lists[0].name}'
    else:
        images = sorted(path.rglob('rgb_*.jpg')) + sorted(path.rglob('rgb_*.png'))
        pairs = [(image, image.with_name(_depth_name(image))) for image in images]
        pairs = [pair for pair in pairs if pair[1].is_file()]
        description = f'all {len(pairs)} pairs of the folder'
    if not pairs:
        raise DataError(
            f'{path}: no pairs rgb_NNNNN.jpg and sync_depth_NNNNN.png (the layout of BTS)'
        )
    names = [str(image.relative_to(path)) for image, _ in pairs]
    return pairs_dataset(
        'NYUv2', 'nyu', f'NYUv2, {description}', pairs, names, clean=_drop_out_of_range
    )


def _depth_name(image: Path) -> str:
    return image.name.replace('rgb_', 'sync_depth_').rsplit('.', 1)[0] + '.png'


def _listed_pairs(folder: Path, listing: Path) -> list[Pair]:
    try:
        rows = [line.split() for line in listing.read_text('utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f'{listing}: {error.strerror}') from None
    pairs = []
    for row in rows:
        if len(row) < 2:
            raise DataError(f"{listing}: expected lines 'rgb depth [focal]', got {row}")
        image, depth = (_find(folder, name) for name in row[:2])
        if image is None or depth is None:
            if 'None' in row:  # BTS writes None for a missing depth
                continue
            raise DataError(f'{listing}: lists {row[0]} and {row[1]}, which are not in {folder}')
        pairs.append((image, depth))
    return pairs


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / base / name.lstrip('/') for base in _BASE_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _drop_out_of_range(depth: np.ndarray) -> np.ndarray:
    return np.where((depth > DEPTH_RANGE[0]) & (depth < DEPTH_RANGE[1]), depth, np.nan)


def _open_labelled(path: Path) -> Dataset:
    """Open the ``.mat`` file; in column-major MATLAB order HDF5 has (index, channel, W, H)."""
    file = open_hdf5(path)
    if 'images' not in file or 'depths' not in file:
        raise DataError(f"{path}: expected 'images' and 'depths', got {sorted(file)}")
    splits = path.with_name('splits.mat')
    if splits.is_file():
        from scipy.io import loadmat

        indices = loadmat(str(splits))['testNdxs'].reshape(-1).astype(int) - 1
        description = f'NYUv2 labelled, official test split, {len(indices)} images'
    else:
        indices = np.arange(len(file['images']))
        description = f'NYUv2 labelled, all {len(indices)} images (no splits.mat next to the file)'

    def load(index: int) -> RgbdSample:
        number = int(indices[index])
        colour = np.ascontiguousarray(file['images'][number].transpose(2, 1, 0)).astype(np.uint8)
        depth = _drop_out_of_range(file['depths'][number].T.astype(np.float32))
        return RgbdSample(f'{number + 1:04d}', colour, depth.astype(np.float32))

    return Dataset('NYUv2', 'nyu', description, len(indices), load)
