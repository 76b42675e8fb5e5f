# SPDX-License-Identifier: Apache-2.0
"""Focus of each image of a folder, from a table, a YAML file or the file names."""

from __future__ import annotations

from collections.abc import Sequence
import csv
from pathlib import Path
import re

import numpy as np
import yaml

from dualfocus_ros.exceptions import DataError

FOCUS_FILES = ('focus.txt', 'focus.csv', 'focus.yaml', 'focus.yml')


def find_focus_file(folder: Path) -> str | None:
    """Return the first of :data:`FOCUS_FILES` in a folder."""
    return next((name for name in FOCUS_FILES if (folder / name).is_file()), None)


def read_focus(folder: Path, images: Sequence[Path], source: str | None = None) -> np.ndarray:
    """Return the focus of each image, (N,) float64, in the unit of the source.

    :param source: a file of the folder; ``name`` for the last number of each file name; ``index``
        for 0, 1, 2, …; None for the focus file of the folder, or else ``name``. Files list one
        number per image, or pairs of image name and number.
    :raises DataError: unless there is exactly one number per image.
    """
    if source is None:
        source = find_focus_file(folder) or 'name'
    if source == 'index':
        return np.arange(len(images), dtype=np.float64)
    if source == 'name':
        return np.array([_number_in_name(path) for path in images])
    path = folder / source
    try:
        text = path.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read ({error})') from None
    rows = _parse_yaml(path, text) if path.suffix in ('.yaml', '.yml') else _parse_table(text)
    named = {name: value for name, value in rows if name}
    if named:
        missing = [p.name for p in images if p.name not in named and p.stem not in named]
        if missing:
            raise DataError(f'{path}: no focus for {missing[0]}')
        return np.array([named[p.name] if p.name in named else named[p.stem] for p in images])
    if len(rows) != len(images):
        raise DataError(f'{path}: {len(rows)} focus values for {len(images)} images')
    return np.array([value for _, value in rows])


def parse_float(word: str) -> float | None:
    """Return a number, or None if the word is not one."""
    try:
        return float(word)
    except ValueError:
        return None


def _number_in_name(path: Path) -> float:
    # A minus sign counts only before a decimal fraction: img-003 is image 3.
    found = re.findall(r'[-+]?\d+\.\d+|\d+', path.stem)
    if not found:
        raise DataError(
            f'{path.name}: no number in the file name to take the focus from; add a focus file '
            f'({FOCUS_FILES[0]}) or put the focus into each name, such as img_0.35.png'
        )
    return float(found[-1])


def _parse_table(text: str) -> list[tuple[str, float]]:
    """Return rows of a name ('' if absent) and a number; skip headings and ``#`` comments."""
    rows: list[tuple[str, float]] = []
    lines = [line.split('#')[0].replace(',', ' ').replace(';', ' ') for line in text.splitlines()]
    for words in csv.reader(lines, delimiter=' ', skipinitialspace=True):
        words = [word for word in words if word]
        numbers = [value for value in map(parse_float, words) if value is not None]
        if words and len(numbers) == len(words):
            rows += [('', value) for value in numbers]
        elif numbers:
            rows.append((words[0], numbers[-1]))
    return rows


def _parse_yaml(path: Path, text: str) -> list[tuple[str, float]]:
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
        raise DataError(f'{path}: expected a list of numbers, or a number for each image name')
    return [(str(name), float(value)) for name, value in items]
