# SPDX-License-Identifier: Apache-2.0
"""Focal stacks from folders: images, and their focus from EXIF, names, tables or YAML files."""

from __future__ import annotations

from collections.abc import Sequence
import csv
from dataclasses import dataclass
import math
from pathlib import Path
import re

import numpy as np
from PIL import Image, UnidentifiedImageError
import yaml

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.io.image_files import list_images, read_pixels, to_rgb

FOCUS_FILES = ('focus.txt', 'focus.csv', 'focus.yaml', 'focus.yml')
# EXIF tags (Exif 2.32), all in the Exif sub-directory.
EXIF_DIRECTORY = 0x8769
SUBJECT_DISTANCE = 0x9206
FOCAL_LENGTH_35MM = 0xA405
UNKNOWN_DISTANCE, INFINITE_DISTANCE = 0, 0xFFFFFFFF
DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True, eq=False)
class StackImage:
    """An image file with its EXIF focus and focal length.

    :param pixels: (H, W) or (H, W, 3) RGB, uint8 or uint16, upright.
    :param focus_dioptres: from the EXIF subject distance; None if absent.
    :param focal_length_35mm: 35 mm equivalent focal length in mm, from EXIF; None if absent.
    """

    path: Path
    pixels: np.ndarray
    focus_dioptres: float | None = None
    focal_length_35mm: float | None = None


def load_stack(
    folder: str | Path, *, focus: str | Sequence[float] | None = None, unit: str = 'metres'
) -> FocalStack:
    """Read the images of a folder as a focal stack, in natural order of the file names.

    :param focus: one number per image; or their source: ``exif`` (subject distance), ``name``
        (last number of each file name) or a file of the folder with one number per image or pairs
        of image name and number (text, CSV or YAML). None takes ``focus.txt``, ``focus.csv`` or
        ``focus.yaml`` if the folder has one, else ``exif``.
    :param unit: ``metres`` or ``dioptres``, the unit of all sources but ``exif``.
    :raises DataError: for missing, damaged or unequal images, or unless each has one valid focus.
    """
    folder = Path(folder)
    paths = list_images(folder)
    images = [read_stack_image(path) for path in paths]
    if focus is None:
        focus = find_focus_file(folder) or 'exif'
    if isinstance(focus, str) and focus == 'exif':
        dioptres = [exif_dioptres(image) for image in images]
    else:
        numbers = read_focus(folder, paths, focus) if isinstance(focus, str) else focus
        dioptres = to_dioptres(numbers, unit)
    if len(dioptres) != len(images):
        raise DataError(f'{folder}: {len(dioptres)} focus values for {len(images)} images')
    pixels = to_uint8([image.pixels for image in images])
    try:
        return FocalStack(tuple(map(Plane, pixels, dioptres)))
    except ValueError as error:
        raise DataError(f'{folder}: {error}') from None


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
        values = [named.get(p.name, named.get(p.stem)) for p in images]
        if None in values:
            raise DataError(f'{path}: no focus for {images[values.index(None)].name}')
        return np.array(values)
    if len(rows) != len(images):
        raise DataError(f'{path}: {len(rows)} focus values for {len(images)} images')
    return np.array([value for _, value in rows])


def parse_float(word: str) -> float | None:
    """Return the number that a word is, or None."""
    try:
        return float(word)
    except ValueError:
        return None


def read_stack_image(path: Path) -> StackImage:
    """Read an image of 8 or 16 bits, grey or colour, with its EXIF focus.

    :raises DataError: if the file is damaged or has another pixel type.
    """
    try:
        with Image.open(path) as image:
            # In this order: Pillow 9.0 does not find the EXIF of a TIFF file after load().
            directory = image.getexif().get_ifd(EXIF_DIRECTORY)
            image.load()  # OpenCV silently fills in the missing part of a truncated file
    except UnidentifiedImageError:
        directory = {}  # such as 16-bit colour TIFF, which OpenCV reads
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f'{path}: damaged or not an image ({error})') from None
    focal_35mm = directory.get(FOCAL_LENGTH_35MM)
    return StackImage(
        path,
        read_pixels(path),
        _exif_focus(directory),
        float(focal_35mm) if isinstance(focal_35mm, int) and focal_35mm > 0 else None,
    )


def exif_dioptres(image: StackImage) -> float:
    """Return the focus from EXIF in dioptres.

    :raises DataError: if the file has no subject distance.
    """
    if image.focus_dioptres is None:
        raise DataError(
            f'{image.path}: no subject distance in EXIF; give the focus of each image as numbers '
            'or in a file'
        )
    return image.focus_dioptres


def exif_camera(image: StackImage) -> PinholeCamera | None:
    """Return intrinsics from the 35 mm equivalent focal length in EXIF, if known.

    The principal point is the image centre.
    """
    if image.focal_length_35mm is None:
        return None
    height, width = image.pixels.shape[:2]
    focal = image.focal_length_35mm / DIAGONAL_35MM * math.hypot(width, height)
    return PinholeCamera.centred(width, height, focal)


def to_dioptres(focus: Sequence[float] | np.ndarray, unit: str) -> list[float]:
    """Convert focus distances in ``metres`` (inf allowed) or ``dioptres`` to dioptres.

    :raises DataError: for an unknown unit, or a focus that is not a distance in front of the lens.
    """
    values = [float(value) for value in focus]
    if unit == 'dioptres':
        for value in values:
            if not (math.isfinite(value) and value >= 0.0):
                raise DataError(f'{value:g} is not a focus in dioptres: it must be 0 or positive')
        return values
    if unit != 'metres':
        raise DataError(f"unit must be metres or dioptres, got '{unit}'")
    for value in values:
        if not value > 0.0:
            raise DataError(f'{value:g} is not a focus in metres: it must be positive')
    return [1.0 / value for value in values]


def to_uint8(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Convert the images of a stack to 8 bits, and all to colour if one is in colour.

    16-bit images share one scale, the smallest of 10, 12, 14 and 16 bits that holds them all, so
    that 12-bit data in 16-bit files does not turn black.
    """
    largest = max((int(i.max()) for i in images if i.dtype == np.uint16 and i.size), default=0)
    bits = next(b for b in (10, 12, 14, 16) if largest < 2**b)
    scale = 255.0 / (2**bits - 1)
    eight = [
        i if i.dtype == np.uint8 else (i.astype(np.float32) * scale + 0.5).astype(np.uint8)
        for i in images
    ]
    return [to_rgb(i) for i in eight] if any(i.ndim == 3 for i in eight) else eight


def _exif_focus(directory: dict[int, object]) -> float | None:
    value = directory.get(SUBJECT_DISTANCE)
    numerator = getattr(value, 'numerator', UNKNOWN_DISTANCE)
    if numerator == INFINITE_DISTANCE:
        return 0.0
    if numerator == UNKNOWN_DISTANCE:
        return None
    metres = float(value)  # type: ignore[arg-type]
    return 1.0 / metres if math.isfinite(metres) and metres > 0.0 else None


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
    if isinstance(content, dict):
        items = list(content.items())
    else:
        items = [('', value) for value in content or []]
    if any(not isinstance(value, (int, float)) for _, value in items):
        raise DataError(f'{path}: expected a list of numbers, or a number for each image name')
    return [(str(name), float(value)) for name, value in items]
