# SPDX-License-Identifier: Apache-2.0
"""Declares described and ranged ROS parameters from a table and checks what was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter


@dataclass(frozen=True)
class Entry:
    """One parameter.

    :param default: also decides the type; a tuple stands for a list of numbers.
    :param description: for ``ros2 param describe``.
    :param low: smallest value allowed.
    :param high: largest value allowed.
    :param choices: the only values allowed.
    :param fixed: whether it can only be set at start.
    """

    name: str
    default: bool | int | float | str | tuple[float, ...]
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = True

    def check(self, value: Any) -> Any:
        """Return the value in its proper type.

        :raises ValueError: naming what was given and what is allowed.
        """
        if isinstance(self.default, tuple):
            numbers = tuple(value) if isinstance(value, Sequence) or hasattr(value, '__len__') \
                else (value,)
            if isinstance(value, str) or not all(self._is_number(number) for number in numbers):
                raise ValueError(f'{self.name}: expected a list of numbers, got {value!r}')
            return tuple(self._in_range(float(number)) for number in numbers)
        if isinstance(self.default, float) and self._is_number(value):
            return self._in_range(float(value))
        if type(value) is not type(self.default):
            kind = {bool: 'true or false', int: 'a whole number', float: 'a number',
                    str: 'text'}[type(self.default)]
            raise ValueError(f'{self.name}: expected {kind}, got {value!r}')
        if self.choices and value not in self.choices:
            allowed = ', '.join(self.choices)
            raise ValueError(f'{self.name}: expected one of {allowed}, got {value!r}')
        return self._in_range(value)

    @staticmethod
    def _is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def _in_range(self, value: Any) -> Any:
        if self.low is None or self.high is None:
            return value
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise ValueError(
                f'{self.name}: expected {self.low:g} to {self.high:g}, got {value:g}'
            )
        return value

    def descriptor(self) -> ParameterDescriptor:
        """Return description, range and choices in ROS's form."""
        described = ParameterDescriptor(
            name=self.name, description=self.description, read_only=self.fixed
        )
        if self.choices:
            described.additional_constraints = 'one of ' + ', '.join(self.choices)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, int):
                described.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high))
                ]
            elif isinstance(self.default, float):
                described.floating_point_range = [
                    FloatingPointRange(from_value=self.low, to_value=self.high)
                ]
        return described


def declare(node: Node, table: Sequence[Entry]) -> dict[str, Any]:
    """Declare all parameters of a table and return their values by name.

    A whole number is taken for a number with a fraction, which ROS itself refuses.

    :raises ValueError: if a value given at start is not allowed.
    """
    values = {}
    for entry in table:
        initial = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        loose = ParameterDescriptor(dynamic_typing=True)
        given = node.declare_parameter(entry.name, initial, loose).value
        node.undeclare_parameter(entry.name)
        value = entry.check(given)
        values[entry.name] = value
        # An empty list has no type of its own.
        typed = list(value) if isinstance(value, tuple) else value
        if typed == []:
            typed = Parameter.Type.DOUBLE_ARRAY
        node.declare_parameter(entry.name, typed, entry.descriptor(), ignore_override=True)
    return values
