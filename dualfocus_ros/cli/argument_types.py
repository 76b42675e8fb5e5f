# SPDX-License-Identifier: Apache-2.0
"""Argument types that check their values, for argparse's ``type``."""

from __future__ import annotations

import argparse
import math
import re

_UNITS = {'': 1.0, 'm': 1.0, 'cm': 1e-2, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'μm': 1e-6}
_LENGTH = re.compile(r'\s*([-+.0-9]+(?:e[-+]?\d+)?)\s*(\D*?)\s*', re.IGNORECASE)


def positive(text: str) -> float:
    """Return a finite number above 0.

    :raises argparse.ArgumentTypeError: for anything else.
    """
    value = _number(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'must be above 0, got {value:g}')
    return value


def non_negative(text: str) -> float:
    """Return a number of 0 or more; infinity is allowed.

    :raises argparse.ArgumentTypeError: for anything else.
    """
    value = _number(text)
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f'must be 0 or more, got {value:g}')
    return value


def positive_int(text: str) -> int:
    """Return a whole number above 0.

    :raises argparse.ArgumentTypeError: for anything else.
    """
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be 1 or more, got {value}')
    return value


def length(text: str) -> float:
    """Return a length in metres: ``16e-3`` and ``16mm`` are equal.

    :raises argparse.ArgumentTypeError: for anything else.
    """
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
    """Return fx, fy, cx and cy in pixels from ``FX,FY,CX,CY``.

    :raises argparse.ArgumentTypeError: for anything else, or focal lengths not above 0.
    """
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
