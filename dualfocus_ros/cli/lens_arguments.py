# SPDX-License-Identifier: Apache-2.0
"""Options for the lens: ``--focal-length``, ``--f-number`` and ``--pixel-pitch``."""

from __future__ import annotations

import argparse

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli.argument_types import length
from dualfocus_ros.exceptions import UsageError


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
        help='of the images, binned or resized as they are: metres (1.4e-6), or 1.4um',
    )


def lens_from(arguments: argparse.Namespace) -> Lens | None:
    """Return the lens, or None without options.

    :raises UsageError: for incomplete or invalid options.
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
