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

from dualfocus_ros.nodes import depth_parameters


@dataclass(frozen=True)
class ParameterSpec:
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
        kind, checked = type(self.default), value
        if kind is tuple and hasattr(value, '__len__') and not isinstance(value, str):
            checked = tuple(float(v) if self._is_number(v) else v for v in value)
            allowed = all(self._is_number(v) and self._within(v) for v in checked)
        elif kind is float and self._is_number(value):
            checked = float(value)
            allowed = self._within(checked)
        elif self.choices:
            allowed = value in self.choices
        else:
            allowed = type(value) is kind and self._within(value)
        if not allowed:
            shown = list(value) if kind is tuple and isinstance(checked, tuple) else value
            raise ValueError(f'{self.name}: expected {self.allowed}, got {shown!r}')
        return checked

    @property
    def allowed(self) -> str:
        """Which values are allowed, in words."""
        entry = depth_parameters.ParameterSpec(self.description, self.low, self.high, self.choices)
        return entry.allowed(type(self.default))

    @staticmethod
    def _is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def _within(self, value: Any) -> bool:
        if self.low is None or self.high is None:
            return True
        return math.isfinite(value) and self.low <= value <= self.high

    def descriptor(self) -> ParameterDescriptor:
        """Return description, range and choices in ROS's form."""
        described = ParameterDescriptor(
            name=self.name, description=self.description, read_only=self.fixed
        )
        if self.choices:
            described.additional_constraints = self.allowed
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


def declare_parameters(node: Node, table: Sequence[ParameterSpec]) -> dict[str, Any]:
    """Declare all parameters of a table and return their values by name.

    A whole number is taken for a number with a fraction, which ROS itself refuses.

    :raises ValueError: if values given at start are not allowed; the text names all of them.
    """
    values, wrong = {}, []
    for entry in table:
        initial = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        loose = ParameterDescriptor(dynamic_typing=True)
        given = node.declare_parameter(entry.name, initial, loose).value
        node.undeclare_parameter(entry.name)
        try:
            value = entry.check(given)
        except ValueError as error:
            wrong.append(str(error))
            continue
        values[entry.name] = value
        # An empty list has no type of its own.
        typed = list(value) if isinstance(value, tuple) else value
        if typed == []:
            typed = Parameter.Type.DOUBLE_ARRAY
        node.declare_parameter(entry.name, typed, entry.descriptor(), ignore_override=True)
    if wrong:
        raise ValueError('; '.join(wrong))
    return values
