# SPDX-License-Identifier: Apache-2.0
"""Data sets of colour images with depth: NYUv2, ARKitScenes, or any folder of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import re

import cv2
import numpy as np

from dualfocus_ros.datasets.samples import Dataset, Options, RgbdSample, number_option
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5, read_depth
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, natural_sort_key, read_rgb

# Files of colour and depth.
Pair = tuple[Path, Path]
# Open interval of NYUv2 depths, in metres, in published evaluations.
NYU_DEPTH_RANGE = (1e-3, 10.0)
# Folders of the NYUv2 export that may hold the listed files.
_NYU_FOLDERS = ('', 'test', 'train', 'sync', 'official_splits/test', 'official_splits/train')
ARKIT_SIZE = (640, 480)
_DEPTH_SUFFIXES = ('.png', '.npy', '.exr', '.tif', '.tiff', '.pgm')
_DEPTH_FOLDERS = ('depth', 'depths', 'highres_depth')
_IMAGE_FOLDERS = ('image', 'images', 'color', 'colour', 'rgb', 'wide')


def open_nyu(path: Path, options: Options) -> Dataset:
    """Open NYUv2: the ``sync`` export of BTS, or the labelled ``.mat`` file.

    The export has pairs ``SCENE/rgb_NNNNN.jpg`` and ``SCENE/sync_depth_NNNNN.png`` (mm).
    ``list=FILE`` selects the pairs of a list with lines ``rgb depth [focal]``; the default is a
    list ``nyu*test*.txt`` in the folder, else all pairs. Of the ``.mat`` file, the official test
    split is taken if ``splits.mat`` is in the same folder, else all images.
    """
    if path.suffix == '.mat':
        return _open_labelled_nyu(path)
    lists = [path / options['list']] if 'list' in options else sorted(path.glob('nyu*test*.txt'))
    if lists:
        pairs = _listed_nyu_pairs(path, lists[0])
        description = f'NYUv2, {len(pairs)} pairs of {lists[0].name}'
    else:
        images = sorted(path.rglob('rgb_*.jpg')) + sorted(path.rglob('rgb_*.png'))
        pairs = [
            (image, image.with_name(image.stem.replace('rgb_', 'sync_depth_') + '.png'))
            for image in images
        ]
        pairs = [pair for pair in pairs if pair[1].is_file()]
        description = f'NYUv2, all {len(pairs)} pairs of the folder'
    if not pairs:
        raise DataError(
            f'{path}: no pairs rgb_NNNNN.jpg and sync_depth_NNNNN.png (the layout of BTS)'
        )
    names = [str(image.relative_to(path)) for image, _ in pairs]
    return _pairs_dataset('NYUv2', 'nyu', description, pairs, names, clean=_clean_nyu)


def _listed_nyu_pairs(folder: Path, listing: Path) -> list[Pair]:
    try:
        rows = [line.split() for line in listing.read_text('utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f'{listing}: {error.strerror}') from None
    pairs = []
    for row in rows:
        if len(row) < 2:
            raise DataError(f"{listing}: expected lines 'rgb depth [focal]', got {row}")
        image, depth = (_find_nyu_file(folder, name) for name in row[:2])
        if image is None or depth is None:
            if 'None' in row:  # BTS writes None for a missing depth
                continue
            raise DataError(f'{listing}: lists {row[0]} and {row[1]}, which are not in {folder}')
        pairs.append((image, depth))
    return pairs


def _find_nyu_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / base / name.lstrip('/') for base in _NYU_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _clean_nyu(depth: np.ndarray) -> np.ndarray:
    low, high = NYU_DEPTH_RANGE
    return np.where((depth > low) & (depth < high), depth, np.nan).astype(np.float32)


def _open_labelled_nyu(path: Path) -> Dataset:
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
        depth = _clean_nyu(file['depths'][number].T.astype(np.float32))
        return RgbdSample(f'{number + 1:04d}', colour, depth)

    return Dataset('NYUv2', 'nyu', description, len(indices), load)


def open_arkitscenes(path: Path, options: Options) -> Dataset:
    """Open the upsampling split of ARKitScenes: images of a phone, depth of a laser scanner.

    Pairs are ``VIDEO/wide/NAME.png`` and ``VIDEO/highres_depth/NAME.png``, resized to 640x480
    without mixing valid and invalid depth. ``split=FOLDER`` is a sub-folder (default
    ``Validation``); ``list=FILE`` selects the pairs of a list with lines
    ``VIDEO/folder/NAME.png …``.
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
    return _pairs_dataset('ARKitScenes', 'arkitscenes', description, pairs, names, size=ARKIT_SIZE)


def open_rgbd_folder(path: Path, options: Options) -> Dataset:
    """Open a folder of colour and depth: two sub-folders, or names with ``color`` and ``depth``.

    Depth is PNG in mm (0 and 65535 invalid), or ``.npy`` or ``.exr`` in metres, times
    ``depth-scale``. Pairs match by name without those words, else by their order if there are as
    many images as depth maps.
    """
    depth_folder, image_folder = (
        next((path / name for name in names if (path / name).is_dir()), None)
        for names in (_DEPTH_FOLDERS, _IMAGE_FOLDERS)
    )
    if depth_folder is not None and image_folder is not None:
        images = _files(image_folder, IMAGE_SUFFIXES)
        depths = _files(depth_folder, _DEPTH_SUFFIXES)
    else:
        files = _files(path, (*IMAGE_SUFFIXES, *_DEPTH_SUFFIXES))
        depths = [p for p in files if 'depth' in p.name.lower() or p.suffix == '.npy']
        images = [p for p in files if p not in depths and p.suffix.lower() in IMAGE_SUFFIXES]
    by_key = {_key(depth): depth for depth in depths}
    pairs = [(image, by_key[_key(image)]) for image in images if _key(image) in by_key]
    if not pairs:
        if not images or len(images) != len(depths):
            raise DataError(
                f'{path}: {len(images)} colour images and {len(depths)} depth maps whose names do '
                "not match; expected sub-folders 'image' and 'depth', or names such as "
                '7.color.jpg and 7.depth.png'
            )
        pairs = list(zip(images, depths))
    scale = np.float32(number_option(options, 'depth-scale', 1.0))
    description = f'{len(pairs)} RGB-D frames of {path.name}'
    names = [_key(image) for image, _ in pairs]
    return _pairs_dataset(
        path.name, 'rgbd', description, pairs, names, clean=lambda depth: depth * scale
    )


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    found = {path for path in folder.iterdir() if path.suffix.lower() in suffixes}
    return sorted(found, key=natural_sort_key)


def _key(path: Path) -> str:
    """Return the name of a file without the words for colour and depth."""
    name = path.name.lower().rsplit('.', 1)[0]
    return re.sub(r'(colou?r|rgb|image|depth)', '', name).strip('._-') or name


def _pairs_dataset(
    name: str,
    kind: str,
    description: str,
    pairs: Sequence[Pair],
    sample_names: Sequence[str],
    *,
    clean: Callable[[np.ndarray], np.ndarray] | None = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """Return a data set of image files; ``clean`` converts the depth in metres that was read."""

    def load(index: int) -> RgbdSample:
        colour, depth = read_rgb(pairs[index][0]), read_depth(pairs[index][1])
        if clean is not None:
            depth = clean(depth).astype(np.float32)
        if size is not None:
            colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        if depth.shape != colour.shape[:2]:
            depth = _resize_depth(depth, colour.shape[:2])
        return RgbdSample(sample_names[index], colour, depth)

    return Dataset(name, kind, description, len(pairs), load)


def _resize_depth(depth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Average the valid pixels of each cell; cells with less than half of them become NaN."""
    size, valid = (shape[1], shape[0]), np.isfinite(depth).astype(np.float32)
    interpolation = cv2.INTER_AREA if shape[0] < depth.shape[0] else cv2.INTER_LINEAR
    weight = cv2.resize(valid, size, interpolation=interpolation)
    total = cv2.resize(np.nan_to_num(depth), size, interpolation=interpolation)
    return np.where(weight >= 0.5, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)
