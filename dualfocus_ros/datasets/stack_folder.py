# SPDX-License-Identifier: Apache-2.0
"""Any folder of images that are one focal stack, with its focus and, maybe, its truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dualfocus_ros.alignment.align import align, warp_planes
from dualfocus_ros.datasets.samples import METRIC_UNITS, UNITS, Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import read_float_map
from dualfocus_ros.io.focus_files import parse_float, read_focus
from dualfocus_ros.io.image_files import list_images, read_rgb

OPTIONS = {
    'unit': f'unit of focus: {", ".join(UNITS)} (default metres)',
    'focus': 'file with the focus of each image, `name` (last number of the file name) or `index`',
    'images': 'glob of the images (default: all images but the truth)',
    'truth': 'file with the truth: .npy, .exr, or PNG in thousandths',
    'truth-scale': 'factor on the truth',
    'crop': 'ROW:COLUMN of the image where the truth has its first pixel',
    'border': 'pixels at the border that are not counted',
    'align': '1 to register the images first',
    'plane': 'R0:R1 or R0:R1:C0:C1, a flat region: report how far 1/z is from linear there',
}


def open_stack_folder(place: Path, options: Mapping[str, str]) -> Dataset:
    """Open one stack; what it means is said by the options of :data:`OPTIONS`.

    :raises DataError: for unknown options, and for images, focus and truth that do not fit.
    """
    paths = _images(place, options)
    unit = options.get('unit', 'metres')
    if unit not in UNITS:
        raise DataError(f"stack: unit must be one of {', '.join(UNITS)}, got '{unit}'")
    focus = read_focus(place, paths, options.get('focus'))

    def load(index: int) -> StackSample:
        images = [read_rgb(path) for path in paths]
        sizes = {image.shape for image in images}
        if len(sizes) != 1:
            raise DataError(f'{place}: the images differ in size: {sorted(sizes)}')
        seen = np.ones(images[0].shape[:2], dtype=bool)
        if options.get('align', '0') not in ('0', 'no', 'false'):
            # Alignment wants neighbours in focus, which are the same in any unit.
            dioptres = 1.0 / focus if unit == 'metres' else focus
            images, seen = warp_planes(images, align(images, dioptres, model='homography'))
        truth = _truth(place, options, seen)
        return StackSample(
            place.name, np.stack(images), focus, unit, truth, plane=_region(options, seen.shape)
        )

    about = f'{place.name}: one stack of {len(paths)} planes, focus in {unit}'
    if 'align' in options:
        about += ', aligned'
    return Dataset(place.name, 'stack', about, 1, load)


def _images(place: Path, options: Mapping[str, str]) -> list[Path]:
    paths = list_images(place)
    if 'images' in options:
        paths = [path for path in paths if path.match(options['images'])]
    paths = [path for path in paths if path.name != options.get('truth')]
    if len(paths) < 2:
        raise DataError(f'{place}: a focal stack needs 2 or more images, found {len(paths)}')
    return paths


def _truth(place: Path, options: Mapping[str, str], seen: np.ndarray) -> np.ndarray | None:
    """Return the truth at the size of the images, NaN where there is none or it is not counted."""
    if 'truth' not in options:
        return None
    values = read_float_map(place / options['truth'], _number(options, 'truth-scale', 1.0))
    if (place / options['truth']).suffix.lower() not in ('.npy', '.exr'):
        values = values * np.float32(1e-3)
    if options.get('unit', 'metres') in METRIC_UNITS:
        values = np.where(values > 0.0, values, np.nan)
    row, column = _numbers(options, 'crop', '0:0', (2,))
    height, width = values.shape
    if row + height > seen.shape[0] or column + width > seen.shape[1]:
        raise DataError(
            f'{place}: truth of size {values.shape} at {row}:{column} does not fit into images '
            f'of size {seen.shape}'
        )
    truth = np.full(seen.shape, np.nan, np.float32)
    truth[row : row + height, column : column + width] = values
    border = int(_number(options, 'border', 0))
    if border > 0:
        counted = np.zeros(seen.shape, dtype=bool)
        counted[border:-border, border:-border] = True
        seen = seen & counted
    return np.where(seen, truth, np.nan).astype(np.float32)


def _region(options: Mapping[str, str], shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    if 'plane' not in options:
        return None
    numbers = _numbers(options, 'plane', '', (2, 4))
    rows, columns = slice(*numbers[:2]), slice(*(numbers[2:] or [0, shape[1]]))
    if not (rows.start < rows.stop <= shape[0] and columns.start < columns.stop <= shape[1]):
        raise DataError(f'stack: plane={options["plane"]} is not inside images of size {shape}')
    return rows, columns


def _numbers(
    options: Mapping[str, str], name: str, default: str, counts: tuple[int, ...]
) -> list[int]:
    text = options.get(name, default)
    parts = text.split(':')
    if len(parts) not in counts or not all(part.isdigit() for part in parts):
        raise DataError(f"stack: {name} must be whole numbers with ':' between, got '{text}'")
    return [int(part) for part in parts]


def _number(options: Mapping[str, str], name: str, default: float) -> float:
    value = parse_float(options.get(name, str(default)))
    if value is None:
        raise DataError(f"stack: {name} must be a number, got '{options[name]}'")
    return value
