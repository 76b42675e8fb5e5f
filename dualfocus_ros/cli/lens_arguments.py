# SPDX-License-Identifier: Apache-2.0
"""The lens as the options --focal-length, --f-number and --pixel-pitch give it."""

from __future__ import annotations

import argparse
import re

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import UsageError

_UNITS = {'': 1.0, 'm': 1.0, 'cm': 1e-2, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'μm': 1e-6}
_LENGTH = re.compile(r'\s*([-+.0-9]+(?:e[-+]?\d+)?)\s*(\D*?)\s*', re.IGNORECASE)


def length(text: str) -> float:
    """Return a length in metres: ``16e-3`` and ``16mm`` are the same.

    :raises argparse.ArgumentTypeError: for what is no length.
    """
    match = _LENGTH.fullmatch(text)
    try:
        if match is not None:
            return float(match[1]) * _UNITS[match[2].lower()]
        return float(text)  # inf
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no length: give metres (16e-3) or a unit (16mm, 1.4um)"
        ) from None


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the three options."""
    group.add_argument(
        '--focal-length', type=length, metavar='M', help='of the lens: metres (16e-3), or 16mm'
    )
    group.add_argument('--f-number', type=float, metavar='N', help='such as 1.8')
    group.add_argument(
        '--pixel-pitch',
        type=length,
        metavar='M',
        help='of the images as they are, binned or resized: metres (1.4e-6), or 1.4um',
    )


def lens_from(arguments: argparse.Namespace) -> Lens | None:
    """Return the lens, or None where nothing is given.

    :raises UsageError: where only a part is given or it is no lens.
    """
    values = (arguments.focal_length, arguments.f_number, arguments.pixel_pitch)
    if all(value is None for value in values):
        return None
    if any(value is None for value in values):
        raise UsageError('--focal-length, --f-number and --pixel-pitch are needed together')
    if values[0] > 1.0 or values[2] > 1e-3:
        raise UsageError(
            f'--focal-length {values[0]:g} and --pixel-pitch {values[2]:g} are in metres: '
            'a 6.8 mm lens is 0.0068 or 6.8mm, a pixel of 1.4 micrometres 1.4e-6 or 1.4um'
        )
    try:
        return Lens(*values)
    except ValueError as error:
        raise UsageError(str(error)) from None
