# SPDX-License-Identifier: Apache-2.0
"""Calibrations as ROS parameter files, which nodes take with ``--params-file``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Value = bool | int | float | str | Sequence[float]


def write_parameters(path: Path, values: Mapping[str, Value], comments: Sequence[str]) -> None:
    """Write parameters for any node that has them.

    :param values: by name; a list is one of numbers.
    :param comments: lines at the top of the file.
    """
    lines = [f'# {line}' for line in comments]
    lines += ['/**:', '  ros__parameters:']
    lines += [f'    {name}: {_text(value)}' for name, value in values.items()]
    path.write_text('\n'.join(lines) + '\n', 'utf-8')


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return f"'{value}'"
    return '[' + ', '.join(_number(float(number)) for number in value) + ']'


def _number(value: float) -> str:
    """Return a number with a point: ROS tells 1.0 from 1, and YAML 1e-05 from a number."""
    text = f'{value:.7g}'
    mantissa, _, exponent = text.partition('e')
    if '.' not in mantissa:
        mantissa += '.0'
    return f'{mantissa}e{exponent}' if exponent else mantissa
