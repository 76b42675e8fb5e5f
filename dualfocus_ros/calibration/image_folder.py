# SPDX-License-Identifier: Apache-2.0
"""Folder of images named by their focus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
import re
from typing import Literal

from dualfocus_ros.calibration.target_images import FocusImage
from dualfocus_ros.exceptions import ConfigError, DataError
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, list_images
from dualfocus_ros.io.stack_files import read_stack_image, to_uint8

_NUMBER = re.compile(r'-?\d+(?:\.\d+)?')


def read_image_folder(
    folder: Path,
    unit: Literal['dioptres', 'position'] = 'dioptres',
    values: Sequence[float] | None = None,
    linear: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[FocusImage]:
    """Yield the images of a folder with their focus, in natural order of their names.

    :param unit: of the focus: 1/m, or driver units of the lens.
    :param values: focus of each image; by default the last number in each file name.
    :param linear: whether values are proportional to light.
    :param progress: called once per image.
    :raises DataError: without images or numbers in their names.
    :raises ConfigError: for a wrong number of values.
    """
    paths = list_images(folder)
    if not paths:
        raise DataError(
            f'{folder}: no images in this folder (known: {" ".join(sorted(IMAGE_SUFFIXES))})'
        )
    if values is None:
        values = [_last_number(path) for path in paths]
    if len(values) != len(paths):
        raise ConfigError(f'values: {len(values)} numbers for {len(paths)} images of {folder}')
    for path, value in zip(paths, values, strict=True):
        pixels = to_uint8([read_stack_image(path).pixels])[0]
        progress()
        if unit == 'position':
            yield FocusImage(pixels, position=value, linear=linear)
        else:
            yield FocusImage(pixels, dioptres=value, linear=linear)


def _last_number(path: Path) -> float:
    found = _NUMBER.findall(path.stem)
    if not found:
        raise DataError(
            f'{path} has no number in its name: name each image by its focus, such as '
            'focus_1.25.png, or give the values'
        )
    return float(found[-1])
