# SPDX-License-Identifier: Apache-2.0
"""Sets of colour with depth: NYUv2, ARKitScenes, and any folder of such pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import re

import cv2
import numpy as np

from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5, read_depth
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, natural_sort_key, read_rgb

Pair = tuple[Path, Path]
DEPTH_SUFFIXES = ('.png', '.npy', '.exr', '.tif', '.tiff', '.pgm')
# NYUv2 is evaluated on depths in this open interval, in metres.
NYU_RANGE = (1e-3, 10.0)
ARKIT_SIZE = (640, 480)


def open_nyu(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open NYUv2: the ``sync`` export of BTS, or the labelled ``.mat`` file.

    The export has ``SCENE/rgb_NNNNN.jpg`` beside ``SCENE/sync_depth_NNNNN.png`` (mm). With
    ``list=FILE`` (lines ``rgb depth [focal]``) only what it lists; a list ``nyu*test*.txt`` that
    lies in the folder is taken by itself. Of the ``.mat``, the official test split when
    ``splits.mat`` lies next to it.
    """
    if place.suffix == '.mat':
        return _open_nyu_mat(place)
    lists = [place / options['list']] if 'list' in options else sorted(place.glob('nyu*test*.txt'))
    if lists:
        pairs = _listed(place, lists[0])
        about = f'{len(pairs)} pairs of {lists[0].name}'
    else:
        colours = sorted(place.rglob('rgb_*.jpg')) + sorted(place.rglob('rgb_*.png'))
        pairs = [(c, c.with_name(_depth_name(c))) for c in colours]
        pairs = [pair for pair in pairs if pair[1].is_file()]
        about = f'all {len(pairs)} pairs of the folder'
    if not pairs:
        raise DataError(
            f'{place}: no pairs rgb_NNNNN.jpg and sync_depth_NNNNN.png (the layout of BTS)'
        )
    names = [str(colour.relative_to(place)) for colour, _ in pairs]
    return _pairs('NYUv2', 'nyu', f'NYUv2, {about}', pairs, names, clean=_within_nyu_range)


def _depth_name(colour: Path) -> str:
    return colour.name.replace('rgb_', 'sync_depth_').rsplit('.', 1)[0] + '.png'


def _listed(place: Path, listing: Path) -> list[Pair]:
    try:
        rows = [line.split() for line in listing.read_text('utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f'{listing}: {error.strerror}') from None
    pairs = []
    for row in rows:
        if len(row) < 2:
            raise DataError(f"{listing}: expected lines 'rgb depth [focal]', got {row}")
        found = tuple(_inside(place, name) for name in row[:2])
        if found[0] is None or found[1] is None:
            if 'None' in row:  # BTS writes None where there is no depth
                continue
            raise DataError(f'{listing}: lists {row[0]} and {row[1]}, which are not in {place}')
        pairs.append((found[0], found[1]))
    return pairs


def _inside(place: Path, name: str) -> Path | None:
    """Return the file, in the folder or in the folders that BTS puts the splits into."""
    for base in ('', 'test', 'train', 'sync', 'official_splits/test', 'official_splits/train'):
        path = place / base / name.lstrip('/')
        if path.is_file():
            return path
    return None


def _within_nyu_range(depth: np.ndarray) -> np.ndarray:
    return np.where((depth > NYU_RANGE[0]) & (depth < NYU_RANGE[1]), depth, np.nan)


def _open_nyu_mat(path: Path) -> Dataset:
    """MATLAB stores columns first, so that HDF5 sees (index, channel, width, height)."""
    file = open_hdf5(path)
    if 'images' not in file or 'depths' not in file:
        raise DataError(f"{path}: expected 'images' and 'depths', got {sorted(file)}")
    splits = path.with_name('splits.mat')
    if splits.is_file():
        from scipy.io import loadmat

        indices = loadmat(str(splits))['testNdxs'].reshape(-1).astype(int) - 1
        about = f'NYUv2 labelled, official test split, {len(indices)} images'
    else:
        indices = np.arange(len(file['images']))
        about = f'NYUv2 labelled, all {len(indices)} images (no splits.mat next to the file)'

    def load(index: int) -> RgbdSample:
        at = int(indices[index])
        colour = np.ascontiguousarray(file['images'][at].transpose(2, 1, 0)).astype(np.uint8)
        depth = _within_nyu_range(file['depths'][at].T.astype(np.float32))
        return RgbdSample(f'{at + 1:04d}', colour, depth.astype(np.float32))

    return Dataset('NYUv2', 'nyu', about, len(indices), load)


def open_arkitscenes(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open the upsampling split of ARKitScenes: ``VIDEO/wide`` and ``VIDEO/highres_depth``.

    Images are resized to 640x480, depth too, without mixing valid and invalid pixels.
    ``list=FILE`` takes the lines of a list that starts with ``VIDEO/folder/NAME.png``.
    """
    split = options.get('split', 'Validation')
    root = place / split if (place / split).is_dir() else place
    if 'list' in options:
        listing = place / options['list']
        if not listing.is_file():
            raise DataError(f'{listing}: no such file')
        rows = [line.split()[0].split('/') for line in listing.read_text().splitlines() if line]
        colours = [root / row[0] / 'wide' / row[-1] for row in rows]
    else:
        colours = sorted(
            root.glob('*/wide/*.png'), key=lambda p: (p.parts[-3], natural_sort_key(p))
        )
    pairs = [(c, c.parent.parent / 'highres_depth' / c.name) for c in colours]
    pairs = [(c, d) for c, d in pairs if d.is_file() and c.is_file()]
    if not pairs:
        raise DataError(f'{root}: no pairs VIDEO/wide/NAME.png and VIDEO/highres_depth/NAME.png')
    names = [f'{colour.parts[-3]}/{colour.stem}' for colour, _ in pairs]
    about = f'ARKitScenes upsampling split, {len(pairs)} frames at 640x480'
    return _pairs('ARKitScenes', 'arkitscenes', about, pairs, names, size=ARKIT_SIZE)


def open_rgbd_folder(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open any folder of colour and depth: two sub-folders, or names with ``color`` and ``depth``.

    Depth is PNG in mm (0 and 65535 invalid), ``.npy`` or ``.exr`` in metres. Pairs match by name
    without those words; failing that by their order, if there are equally many.
    """
    depth_folder = _subfolder(place, ('depth', 'depths', 'highres_depth'))
    colour_folder = _subfolder(place, ('image', 'images', 'color', 'colour', 'rgb', 'wide'))
    if depth_folder is not None and colour_folder is not None:
        colours = _files(colour_folder, IMAGE_SUFFIXES)
        depths = _files(depth_folder, DEPTH_SUFFIXES)
    else:
        files = _files(place, (*IMAGE_SUFFIXES, *DEPTH_SUFFIXES))
        depths = [p for p in files if 'depth' in p.name.lower() or p.suffix == '.npy']
        colours = [p for p in files if p not in depths and p.suffix.lower() in IMAGE_SUFFIXES]
    pairs = match_pairs(colours, depths, place)
    scale = float(options.get('depth-scale', 1.0))
    about = f'{len(pairs)} RGB-D frames of {place.name}'
    names = [_key(colour) for colour, _ in pairs]
    return _pairs(
        place.name, 'rgbd', about, pairs, names, clean=lambda depth: depth * np.float32(scale)
    )


def match_pairs(colours: Sequence[Path], depths: Sequence[Path], place: Path) -> list[Pair]:
    """Match colour and depth by name, or by order where no name matches.

    :raises DataError: if neither is possible.
    """
    by_key = {_key(path): path for path in depths}
    pairs = [(path, by_key[_key(path)]) for path in colours if _key(path) in by_key]
    if pairs:
        return pairs
    if not colours or len(colours) != len(depths):
        raise DataError(
            f'{place}: {len(colours)} colour images and {len(depths)} depth maps whose names do '
            "not match; expected sub-folders 'image' and 'depth', or names such as 7.color.jpg "
            'and 7.depth.png'
        )
    return list(zip(colours, depths))


def _key(path: Path) -> str:
    name = path.name.lower().rsplit('.', 1)[0]
    return re.sub(r'(colou?r|rgb|image|depth)', '', name).strip('._-') or name


def _subfolder(place: Path, names: Sequence[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_dir()), None)


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    found = {path for path in folder.iterdir() if path.suffix.lower() in suffixes}
    return sorted(found, key=natural_sort_key)


def _pairs(
    name: str,
    kind: str,
    about: str,
    pairs: Sequence[Pair],
    names: Sequence[str],
    clean: Callable[[np.ndarray], np.ndarray] | None = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    def load(index: int) -> RgbdSample:
        colour, depth = read_rgb(pairs[index][0]), read_depth(pairs[index][1])
        if clean is not None:
            depth = clean(depth).astype(np.float32)
        if size is not None:
            colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        if depth.shape != colour.shape[:2]:
            depth = _resize_depth(depth, colour.shape[:2])
        return RgbdSample(names[index], colour, depth)

    return Dataset(name, kind, about, len(pairs), load)


def _resize_depth(depth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Average the valid pixels of each cell; a cell with less than half of them is invalid."""
    size, known = (shape[1], shape[0]), np.isfinite(depth).astype(np.float32)
    area = cv2.INTER_AREA if shape[0] < depth.shape[0] else cv2.INTER_LINEAR
    weight = cv2.resize(known, size, interpolation=area)
    total = cv2.resize(np.nan_to_num(depth), size, interpolation=area)
    return np.where(weight >= 0.5, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)
