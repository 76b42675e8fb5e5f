# SPDX-License-Identifier: Apache-2.0
"""Any folder with the images of one focal stack, its focus and optionally its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualfocus_ros.alignment.align import align, warp_planes
from dualfocus_ros.datasets.samples import (
    METRIC_UNITS,
    UNITS,
    Dataset,
    Options,
    StackSample,
    choice_option,
    integers_option,
    number_option,
)
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import read_float_map
from dualfocus_ros.io.image_files import list_images, read_rgb
from dualfocus_ros.io.stack_files import read_focus

STACK_OPTIONS = {
    'unit': f'unit of focus: {", ".join(UNITS)} (default metres)',
    'focus': 'file with the focus of each image, `name` (last number of the file name) or `index`',
    'images': 'glob of the images (default: all images but the truth)',
    'truth': 'file with the truth: .npy, .exr, or PNG in thousandths',
    'truth-scale': 'factor on the truth',
    'crop': 'ROW:COLUMN of the image where the truth has its first pixel',
    'border': 'width in pixels of the border to exclude',
    'align': '1 to register the images first',
    'plane': 'R0:R1 or R0:R1:C0:C1, a flat region: report the deviation of 1/z from a plane there',
}


def open_stack_folder(folder: Path, options: Options) -> Dataset:
    """Open a folder as a data set of one stack.

    :param options: see :data:`STACK_OPTIONS`.
    :raises DataError: for invalid options, or images, focus and truth that do not match.
    """
    paths = _image_paths(folder, options)
    unit = choice_option(options, 'unit', 'metres', tuple(UNITS))
    focus = read_focus(folder, paths, options.get('focus'))

    def load(index: int) -> StackSample:
        images = [read_rgb(path) for path in paths]
        sizes = {image.shape for image in images}
        if len(sizes) != 1:
            raise DataError(f'{folder}: the images differ in size: {sorted(sizes)}')
        valid = np.ones(images[0].shape[:2], dtype=bool)
        if options.get('align', '0') not in ('0', 'no', 'false'):
            # Alignment only needs the order of focus, which is the same in every unit.
            dioptres = 1.0 / focus if unit == 'metres' else focus
            images, valid = warp_planes(images, align(images, dioptres, model='homography'))
        truth = _truth(folder, options, valid)
        return StackSample(
            folder.name, np.stack(images), focus, unit, truth, plane=_region(options, valid.shape)
        )

    description = f'{folder.name}: one stack of {len(paths)} planes, focus in {unit}'
    if 'align' in options:
        description += ', aligned'
    return Dataset(folder.name, 'stack', description, 1, load)


def _image_paths(folder: Path, options: Options) -> list[Path]:
    paths = list_images(folder)
    if 'images' in options:
        paths = [path for path in paths if path.match(options['images'])]
    paths = [path for path in paths if path.name != options.get('truth')]
    if len(paths) < 2:
        raise DataError(f'{folder}: a focal stack needs 2 or more images, found {len(paths)}')
    return paths


def _truth(folder: Path, options: Options, valid: np.ndarray) -> np.ndarray | None:
    """Return the truth at the size of the images, NaN where unknown or excluded."""
    if 'truth' not in options:
        return None
    path = folder / options['truth']
    values = read_float_map(path, number_option(options, 'truth-scale', 1.0))
    if path.suffix.lower() not in ('.npy', '.exr'):
        values = values * np.float32(1e-3)
    if options.get('unit', 'metres') in METRIC_UNITS:
        values = np.where(values > 0.0, values, np.nan)
    row, column = integers_option(options, 'crop', (2,)) if 'crop' in options else (0, 0)
    height, width = values.shape
    if row + height > valid.shape[0] or column + width > valid.shape[1]:
        raise DataError(
            f'{folder}: truth of size {values.shape} at {row}:{column} does not fit into images '
            f'of size {valid.shape}'
        )
    truth = np.full(valid.shape, np.nan, np.float32)
    truth[row : row + height, column : column + width] = values
    border = int(number_option(options, 'border', 0))
    if border > 0:
        inner = np.zeros(valid.shape, dtype=bool)
        inner[border:-border, border:-border] = True
        valid = valid & inner
    return np.where(valid, truth, np.nan).astype(np.float32)


def _region(options: Options, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    if 'plane' not in options:
        return None
    numbers = integers_option(options, 'plane', (2, 4))
    rows, columns = slice(*numbers[:2]), slice(*(numbers[2:] or [0, shape[1]]))
    if not (rows.start < rows.stop <= shape[0] and columns.start < columns.stop <= shape[1]):
        raise DataError(f'plane={options["plane"]} is not inside images of size {shape}')
    return rows, columns
