# SPDX-License-Identifier: Apache-2.0
"""Images of a focal stack and their focus, as people have them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import re

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from dualfocus_ros.exceptions import CommandError, UsageError

SUFFIXES = {'.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.webp', '.ppm', '.pgm'}

# EXIF tags (Exif 2.32), all in the Exif sub-directory.
EXIF_DIRECTORY = 0x8769
SUBJECT_DISTANCE = 0x9206
FOCAL_LENGTH_35MM = 0xA405
UNKNOWN_DISTANCE, INFINITE_DISTANCE = 0, 0xFFFFFFFF
DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True, eq=False)
class StackImage:
    """One image as it came from disk, upright.

    :param pixels: (H, W) or (H, W, 3) RGB, uint8 or uint16.
    :param focus_dioptres: from the EXIF subject distance; None where it does not say.
    :param focal_length_35mm: equivalent focal length in mm, from EXIF; None where it is unknown.
    """

    path: Path
    pixels: np.ndarray
    focus_dioptres: float | None = None
    focal_length_35mm: float | None = None


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the image files of one folder in natural order (2 before 10), or the files given.

    :raises CommandError: if something is missing or the folder holds no images.
    """
    paths = [Path(name) for name in names]
    for path in paths:
        if not path.exists():
            raise CommandError(f'{path}: no such file or folder')
    if not any(path.is_dir() for path in paths):
        return paths
    if len(paths) > 1:
        raise UsageError('give either image files or one folder, not a mixture')
    found = [path for path in paths[0].iterdir() if path.suffix.lower() in SUFFIXES]
    if not found:
        kinds = ' '.join(sorted(SUFFIXES))
        raise CommandError(f'{paths[0]}: no images in this folder (known: {kinds})')
    return sorted(found, key=_natural)


def read_image(path: Path) -> StackImage:
    """Read an image of 8 or 16 bits, grey or colour; transparency is dropped, EXIF turned upright.

    :raises CommandError: if the file is damaged or of a kind that cannot be used.
    """
    try:
        with Image.open(path) as image:
            # In this order: Pillow 9.0 cannot find the EXIF of a TIFF file that it has read.
            directory = image.getexif().get_ifd(EXIF_DIRECTORY)
            image.load()  # OpenCV would silently fill in what is missing from a damaged file
    except UnidentifiedImageError:
        directory = {}  # such as 16-bit colour TIFF: OpenCV may know it
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f'{path}: damaged or not an image ({error})') from None
    encoded = np.fromfile(path, np.uint8)
    pixels = None
    if encoded.size:
        # ANYCOLOR keeps grey grey and drops transparency; the EXIF orientation is applied.
        pixels = cv2.imdecode(encoded, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if pixels is None:
        raise CommandError(f'{path}: damaged or not an image')
    if pixels.dtype not in (np.uint8, np.uint16):
        raise CommandError(f'{path}: {pixels.dtype} pixels; images of 8 or 16 bits can be used')
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    return StackImage(path, pixels, _exif_focus(directory), _exif_35mm(directory))


def to_common_depth(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring the images to 8 bits, and to colour if any is in colour.

    16-bit images are scaled alike, by the smallest of 10, 12, 14 and 16 bits that holds them all,
    so that 12-bit data in 16-bit files does not come out black.
    """
    largest = max((int(i.max()) for i in images if i.dtype == np.uint16 and i.size), default=0)
    bits = next(b for b in (10, 12, 14, 16) if largest < 2**b)
    eight = [
        image
        if image.dtype == np.uint8
        else (image.astype(np.float32) * (255.0 / (2**bits - 1)) + 0.5).astype(np.uint8)
        for image in images
    ]
    if any(image.ndim == 3 for image in eight):
        return [np.repeat(i[..., None], 3, axis=2) if i.ndim == 2 else i for i in eight]
    return eight


def read_numbers(words: Sequence[str], option: str) -> list[float]:
    """Return numbers from the command line, or from the text file that the only word names.

    In a file, numbers stand apart by spaces, commas or line ends; ``#`` starts a comment.
    """
    if len(words) == 1 and not _is_number(words[0]):
        path = Path(words[0])
        try:
            text = path.read_text('utf-8')
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f'{option}: {words[0]!r} is neither a number nor a readable text file of numbers'
            ) from None
        lines = [line.split('#')[0] for line in text.splitlines()]
        words = ' '.join(lines).replace(',', ' ').split()
    wrong = [word for word in words if not _is_number(word)]
    if wrong:
        raise UsageError(f'{option}: {wrong[0]!r} is not a number')
    return [float(word) for word in words]


def to_dioptres(
    images: Sequence[StackImage], dioptres: Sequence[str] | None, metres: Sequence[str] | None
) -> list[float]:
    """Return the focus of each image in dioptres, from either option or from EXIF.

    :raises UsageError: if they are missing, too few, too many, or not possible distances.
    """
    if dioptres is not None:
        option, found = '--focus-dioptres', read_numbers(dioptres, '--focus-dioptres')
        bad = [q for q in found if not (math.isfinite(q) and q >= 0.0)]
        rule = 'must be 0 (infinity) or positive'
    elif metres is not None:
        option, found = '--focus-distances', read_numbers(metres, '--focus-distances')
        bad = [s for s in found if not s > 0.0]
        rule = 'must be positive metres (inf for infinity)'
        found = [1.0 / s if s > 0.0 else math.nan for s in found]
    else:
        silent = [image.path.name for image in images if image.focus_dioptres is None]
        if silent:
            raise UsageError(
                f'{silent[0]} does not say in EXIF how far away it is focused: give '
                '--focus-distances METRES … or --focus-dioptres D …, one per image'
            )
        return [float(q) for image in images if (q := image.focus_dioptres) is not None]
    if bad:
        raise UsageError(f'{option}: {bad[0]:g} is not a focus: it {rule}')
    if len(found) != len(images):
        names = [image.path.name for image in images]
        shown = ', '.join(names if len(names) <= 6 else [*names[:3], '…', names[-1]])
        raise UsageError(
            f'{option}: {len(found)} values for {len(images)} images: '
            f'give one for each, in this order: {shown}'
        )
    return found


def _natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r'(\d+)', path.name.lower())
    return tuple((0, int(p), '') if p.isdigit() else (1, 0, p) for p in parts if p)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _exif_focus(directory: dict[int, object]) -> float | None:
    value = directory.get(SUBJECT_DISTANCE)
    numerator = getattr(value, 'numerator', None)
    if numerator is None or numerator == UNKNOWN_DISTANCE:
        return None
    if numerator == INFINITE_DISTANCE:
        return 0.0
    metres = float(value)  # type: ignore[arg-type]
    return 1.0 / metres if math.isfinite(metres) and metres > 0.0 else None


def _exif_35mm(directory: dict[int, object]) -> float | None:
    value = directory.get(FOCAL_LENGTH_35MM)
    return float(value) if isinstance(value, int) and value > 0 else None
