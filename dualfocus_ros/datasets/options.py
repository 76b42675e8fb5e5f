# SPDX-License-Identifier: Apache-2.0
"""Parsing of data set options, such as ``count=16`` or ``crop=20:20``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.stack_files import parse_float

Options = Mapping[str, str]


def choice_option(options: Options, name: str, default: str, choices: Sequence[str]) -> str:
    """Return the value of an option with fixed choices.

    :raises DataError: for another value.
    """
    value = options.get(name, default)
    if value not in choices:
        raise DataError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
    return value


def count_option(options: Options, name: str, default: int) -> int:
    """Return the value of an option that is a whole number above 0.

    :raises DataError: for another value.
    """
    text = options.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise DataError(f"{name} must be a whole number above 0, got '{text}'")
    return int(text)


def number_option(options: Options, name: str, default: float) -> float:
    """Return the value of an option that is a number.

    :raises DataError: for another value.
    """
    value = parse_float(options.get(name, str(default)))
    if value is None:
        raise DataError(f"{name} must be a number, got '{options[name]}'")
    return value


def integers_option(options: Options, name: str, counts: Sequence[int]) -> list[int]:
    """Return the value of an option that is a list of whole numbers, separated by ``:``.

    :param counts: allowed lengths of the list.
    :raises DataError: for another value.
    """
    parts = options[name].split(':')
    if len(parts) not in counts or not all(part.isdigit() for part in parts):
        lengths = ' or '.join(map(str, counts))
        raise DataError(
            f"{name} must be {lengths} whole numbers separated by ':', got '{options[name]}'"
        )
    return [int(part) for part in parts]
