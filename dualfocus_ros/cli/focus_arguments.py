# SPDX-License-Identifier: Apache-2.0
"""Arguments that name images of a focal stack and their focus."""

from __future__ import annotations

from collections.abc import Sequence
import math
from pathlib import Path

from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, list_images
from dualfocus_ros.io.stack_files import StackImage, parse_float


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the image files of one folder in natural order, or the files given.

    :raises CommandError: if a file is missing or the folder holds no images.
    """
    paths = [Path(name) for name in names]
    for path in paths:
        if not path.exists():
            raise CommandError(f'{path}: no such file or folder')
    if not any(path.is_dir() for path in paths):
        return paths
    if len(paths) > 1:
        raise UsageError('give either image files or one folder, not a mixture')
    found = list_images(paths[0])
    if not found:
        raise CommandError(
            f'{paths[0]}: no images in this folder (known: {" ".join(sorted(IMAGE_SUFFIXES))})'
        )
    return found


def read_numbers(words: Sequence[str], option: str) -> list[float]:
    """Return numbers from the command line, or from the text file that the only word names.

    Numbers in a file are separated by spaces, commas or line ends; ``#`` starts a comment.

    :raises UsageError: if a word is not a number, or the file cannot be read.
    """
    if len(words) == 1 and parse_float(words[0]) is None:
        path = Path(words[0])
        try:
            text = path.read_text('utf-8')
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f'{option}: {words[0]!r} is neither a number nor a readable text file of numbers'
            ) from None
        lines = [line.split('#')[0] for line in text.splitlines()]
        words = ' '.join(lines).replace(',', ' ').split()
    numbers = []
    for word in words:
        number = parse_float(word)
        if number is None:
            raise UsageError(f'{option}: {word!r} is not a number')
        numbers.append(number)
    return numbers


def focus_dioptres(
    images: Sequence[StackImage], dioptres: Sequence[str] | None, metres: Sequence[str] | None
) -> list[float]:
    """Return the focus of each image in dioptres, from either option or from EXIF.

    :raises UsageError: if values are missing, too few, too many, or not possible distances.
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
        missing = [image.path.name for image in images if image.focus_dioptres is None]
        if missing:
            raise UsageError(
                f'{missing[0]} has no focus distance in EXIF: give --focus-distances METRES … or '
                '--focus-dioptres D …, one per image'
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
