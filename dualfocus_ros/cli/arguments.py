# SPDX-License-Identifier: Apache-2.0
"""Options of several commands, and types that check values for argparse's ``type``.

The types raise ``argparse.ArgumentTypeError`` for text of another form.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import math
import re

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import UsageError

_UNITS = {'': 1.0, 'm': 1.0, 'cm': 1e-2, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'μm': 1e-6}
_LENGTH = re.compile(r'\s*([-+.0-9]+(?:e[-+]?\d+)?)\s*(\D*?)\s*', re.IGNORECASE)


def positive(text: str) -> float:
    """Return a finite number above 0."""
    value = _number(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'must be above 0, got {value:g}')
    return value


def non_negative(text: str) -> float:
    """Return a number of 0 or more; infinity is allowed."""
    value = _number(text)
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f'must be 0 or more, got {value:g}')
    return value


def positive_int(text: str) -> int:
    """Return a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be 1 or more, got {value}')
    return value


def length(text: str) -> float:
    """Return a length in metres: ``16e-3`` and ``16mm`` are equal."""
    match = _LENGTH.fullmatch(text)
    try:
        if match is not None:
            return float(match[1]) * _UNITS[match[2].lower()]
        return float(text)  # inf
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a length: give metres (16e-3) or a unit (16mm, 1.4um)"
        ) from None


def intrinsics(text: str) -> tuple[float, float, float, float]:
    """Return fx, fy, cx and cy in pixels from ``FX,FY,CX,CY``."""
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(','))
    except ValueError:
        fx = fy = 0.0
    if not (0.0 < fx < math.inf and 0.0 < fy < math.inf):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not FX,FY,CX,CY: four numbers in pixels, FX and FY above 0"
        )
    return fx, fy, cx, cy


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def add_number(
    parser: argparse._ActionsContainer,
    flag: str,
    metavar: str,
    default: float,
    text: str,
    kind: Callable[[str], float] | None = None,
) -> None:
    """Declare an option for a number, by default of the type of its default value."""
    parser.add_argument(
        flag,
        type=kind or type(default),
        default=default,
        metavar=metavar,
        help=f'{text} (default: {default:g})',
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument('--json', action='store_true', help='print the result as JSON')


def add_model_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--model``."""
    parser.add_argument('--model', default='auto', help='a shipped name or a .safetensors file')


def add_device_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--device``."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')


def add_threads_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--threads``."""
    parser.add_argument('--threads', type=int, default=0, help='on a CPU (default: all but one)')


def add_lens_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare ``--focal-length``, ``--f-number`` and ``--pixel-pitch``."""
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
    """Return the lens that the options give, or None without options.

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
