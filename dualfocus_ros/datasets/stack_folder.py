# SPDX-License-Identifier: Apache-2.0
"""Any folder of images that are one focal stack, with its focus and, maybe, its truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
from pathlib import Path
import re

import numpy as np
import yaml

from dualfocus_ros.alignment.homography import align_planes, warp_planes
from dualfocus_ros.datasets.samples import METRIC_UNITS, UNITS, Dataset, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.image_files import list_images, read_float_map, read_rgb

FOCUS_FILES = ('focus.txt', 'focus.csv', 'focus.yaml', 'focus.yml')
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
            images, seen = warp_planes(images, align_planes(images, dioptres))
        truth = _truth(place, options, seen)
        return StackSample(
            place.name, np.stack(images), focus, unit, truth, plane=_region(options, seen.shape)
        )

    about = f'{place.name}: one stack of {len(paths)} planes, focus in {unit}'
    if 'align' in options:
        about += ', aligned'
    return Dataset(place.name, 'stack', about, 1, load)


def read_focus(place: Path, paths: Sequence[Path], source: str | None = None) -> np.ndarray:
    """Return the focus of each image, (N,) float64.

    :param source: a file of the folder, ``name``, ``index``, or None: ``focus.txt``,
        ``focus.csv`` or ``focus.yaml`` if there is one, else the file names.
    :raises DataError: if there is not exactly one number per image.
    """
    if source is None:
        source = next((name for name in FOCUS_FILES if (place / name).is_file()), 'name')
    if source == 'index':
        return np.arange(len(paths), dtype=np.float64)
    if source == 'name':
        return np.array([_number_in(path) for path in paths])
    path = place / source
    try:
        text = path.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read ({error})') from None
    rows = _from_yaml(path, text) if path.suffix in ('.yaml', '.yml') else _from_table(text)
    named = {name: value for name, value in rows if name}
    if named:
        missing = [p.name for p in paths if p.name not in named and p.stem not in named]
        if missing:
            raise DataError(f'{path}: no focus for {missing[0]}')
        return np.array([named[p.name] if p.name in named else named[p.stem] for p in paths])
    if len(rows) != len(paths):
        raise DataError(f'{path}: {len(rows)} focus values for {len(paths)} images')
    return np.array([value for _, value in rows])


def _number_in(path: Path) -> float:
    # A minus sign counts only before a decimal fraction: img-003 is image 3.
    found = re.findall(r'[-+]?\d+\.\d+|\d+', path.stem)
    if not found:
        raise DataError(f'{path.name}: no number in the file name to take the focus from')
    return float(found[-1])


def _from_table(text: str) -> list[tuple[str, float]]:
    """Rows of numbers, or of a name and a number; ``#`` comments, a heading is skipped."""
    rows: list[tuple[str, float]] = []
    lines = [line.split('#')[0].replace(',', ' ').replace(';', ' ') for line in text.splitlines()]
    for words in csv.reader(lines, delimiter=' ', skipinitialspace=True):
        words = [word for word in words if word]
        numbers = [value for value in map(_to_number, words) if value is not None]
        if words and len(numbers) == len(words):
            rows += [('', value) for value in numbers]
        elif numbers:
            rows.append((words[0], numbers[-1]))
    return rows


def _from_yaml(path: Path, text: str) -> list[tuple[str, float]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f'{path}: not YAML ({error})') from None
    if isinstance(content, dict) and isinstance(content.get('focus'), (list, dict)):
        content = content['focus']
    items = (
        list(content.items())
        if isinstance(content, dict)
        else [('', value) for value in content or []]
    )
    if any(not isinstance(value, (int, float)) for _, value in items):
        raise DataError(f'{path}: expected a list of numbers or names with a number each')
    return [(str(name), float(value)) for name, value in items]


def _to_number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


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
    value = _to_number(options.get(name, str(default)))
    if value is None:
        raise DataError(f"stack: {name} must be a number, got '{options[name]}'")
    return value
