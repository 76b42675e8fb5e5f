# SPDX-License-Identifier: Apache-2.0
"""Specification of a ROS parameter, usable without ROS."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

_NOUNS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'a string',
    tuple: 'a list of numbers',
}


@dataclass(frozen=True)
class ParameterSpec:
    """Specification of one parameter: declaration, check and documentation derive from it.

    :param default: also decides the type; a tuple stands for a list of numbers.
    :param description: text of ``ros2 param describe`` and of docs/parameters.md.
    :param low: smallest allowed number.
    :param high: largest allowed number.
    :param choices: the only allowed strings.
    :param read_only: whether the parameter can only be set at start.
    """

    name: str
    default: bool | int | float | str | tuple[float, ...]
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def type(self) -> type:
        """Type of the values: bool, int, float, str or tuple."""
        return type(self.default)

    @property
    def allowed(self) -> str:
        """Description of the allowed values, such as ``a number from 0 to 10``."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        noun = _NOUNS[self.type]
        if self.low is None or self.high is None:
            return noun
        whole = self.type is int
        low, high = (int(end) if whole else f'{end:g}' for end in (self.low, self.high))
        return f'{noun} from {low} to {high}'

    def coerce(self, value: Any) -> Any:
        """Return a value in the type of the parameter; an integer is accepted for a number.

        :raises ValueError: with the name, the allowed values and the value received.
        """
        try:
            coerced = self._converted(value)
        except TypeError:
            raise ValueError(self._refusal(value)) from None
        for item in coerced if isinstance(coerced, tuple) else (coerced,):
            if not self._is_allowed(item):
                raise ValueError(self._refusal(value))
        return coerced

    def _converted(self, value: Any) -> Any:
        if value is False and 'off' in self.choices:
            return 'off'  # YAML reads the bare word as false, in files and on the command line
        if self.type is tuple:
            if isinstance(value, str | bytes):
                raise TypeError
            return tuple(_number(item) for item in value)
        if self.type is float:
            return _number(value)
        if isinstance(value, bool) != (self.type is bool) or not isinstance(value, self.type):
            raise TypeError
        return value

    def _is_allowed(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.low is None or self.high is None:
            return True
        return math.isfinite(value) and self.low <= value <= self.high

    def _refusal(self, value: Any) -> str:
        listed = self.type is tuple and hasattr(value, '__len__')
        shown = list(value) if listed and not isinstance(value, str | bytes) else value
        return f'{self.name} must be {self.allowed}, got {shown!r}'


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)
