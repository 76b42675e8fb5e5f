# SPDX-License-Identifier: Apache-2.0
"""Result of a calibration, and ROS parameter files for ``--params-file``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dualfocus_ros.io.atomic_files import write_text

Value = bool | int | float | str | Sequence[float]


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """Result of a calibration.

    :param parameters: of the nodes, by name.
    :param summary: all numbers, for JSON.
    :param lines: text for people.
    :param figure: (H, W, 3) uint8 RGB, the fit and its residuals.
    """

    parameters: Mapping[str, Value]
    summary: Mapping[str, Any]
    lines: Sequence[str]
    figure: np.ndarray
    warnings: Sequence[str] = ()


def write_parameters(path: Path, values: Mapping[str, Value], comments: Sequence[str]) -> None:
    """Write parameters for all nodes (``/**``).

    :param values: by name; lists hold numbers.
    :param comments: lines at the top of the file.
    """
    lines = [f'# {line}' for line in comments]
    lines += ['/**:', '  ros__parameters:']
    lines += [f'    {name}: {_text(value)}' for name, value in values.items()]
    write_text(path, '\n'.join(lines) + '\n')


def read_numbers(path: Path, name: str) -> list[float]:
    """Return a parameter that is a list of numbers, of any node in the file.

    :raises ValueError: if the file, the parameter or its type is wrong.
    """
    try:
        document = yaml.safe_load(path.read_text('utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path} cannot be read as a parameter file: {error}') from None
    for value in _values(document, name):
        if isinstance(value, list) and all(_is_number(number) for number in value):
            return [float(number) for number in value]
        raise ValueError(f'{path}: {name} must be a list of numbers, got {value!r}')
    raise ValueError(f'{path} has no {name}')


def _values(document: Any, name: str) -> Iterator[Any]:
    """Yield the value of each node under ``name``, written as ``group.name`` or nested."""
    group, _, rest = name.partition('.')
    for node in document.values() if isinstance(document, dict) else ():
        values = node.get('ros__parameters') if isinstance(node, dict) else None
        if isinstance(values, dict):
            nested = values.get(group)
            if name in values:
                yield values[name]
            elif isinstance(nested, dict) and rest in nested:
                yield nested[rest]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Value) -> str:
    if isinstance(value, int):  # also true for bool
        return str(value).lower()
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return f"'{value}'"
    return '[' + ', '.join(_number(float(number)) for number in value) + ']'


def _number(value: float) -> str:
    """Return a number with a point: ROS distinguishes 1.0 from 1, and YAML reads 1e-05 as text."""
    text = f'{value:.7g}'
    mantissa, _, exponent = text.partition('e')
    if '.' not in mantissa:
        mantissa += '.0'
    return f'{mantissa}e{exponent}' if exponent else mantissa
