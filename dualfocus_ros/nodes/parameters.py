# SPDX-License-Identifier: Apache-2.0
"""Declares the parameters of the depth node, checks changes together, and hands out snapshots."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter

from dualfocus_ros.nodes.depth_parameters import (
    DEFAULTS,
    FIELD_NAMES,
    SPECS,
    DepthNodeSettings,
    coerce,
    validate,
)


class DepthNodeParameters:
    """The parameters of a depth node.

    A wrong value at start-up does not end the process: the default stands in for it, and
    ``problems`` says what to correct, so that configuring can fail with that reason. A wrong
    value later is refused, together with all that were set in the same call.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wrong: dict[str, str] = {}
        self._snapshot: DepthNodeSettings | None = None
        for name in DEFAULTS:
            self._declare(name)
        node.add_on_set_parameters_callback(self._on_set)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the values that were given at start-up and not corrected since."""
        return [*self._wrong.values(), *validate(self.current())]

    def current(self) -> DepthNodeSettings:
        """Return all values; the same object until one changes. For the executor's thread."""
        if self._snapshot is None:
            self._snapshot = _settings({name: self._value(name) for name in DEFAULTS})
        return self._snapshot

    def _declare(self, name: str) -> None:
        # First with any type, to see what was given: an integer for a number is accepted, and
        # anything else gets a text that names what is allowed.
        given = self._node.declare_parameter(
            name, _ros_value(DEFAULTS[name]), ParameterDescriptor(dynamic_typing=True)
        ).value
        self._node.undeclare_parameter(name)
        try:
            value = coerce(name, given)
        except ValueError as error:
            self._wrong[name] = str(error)
            value = DEFAULTS[name]
        # An empty list has no type, so it is declared by its type, without a value.
        declared = Parameter.Type.DOUBLE_ARRAY if value == () else _ros_value(value)
        self._node.declare_parameter(name, declared, descriptor(name), ignore_override=True)

    def _value(self, name: str) -> Any:
        try:
            return self._node.get_parameter(name).value
        except ParameterUninitializedException:
            return ()

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        ours = [change for change in changes if change.name in DEFAULTS]
        if not ours:
            return SetParametersResult(successful=True)
        values = {name: self._value(name) for name in DEFAULTS}
        before = set(validate(self.current()))
        try:
            values.update({c.name: coerce(c.name, c.value) for c in ours})
            wrong = [text for text in validate(_settings(values)) if text not in before]
        except ValueError as error:
            wrong = [str(error)]
        if wrong:
            return SetParametersResult(successful=False, reason='; '.join(wrong))
        for change in ours:
            self._wrong.pop(change.name, None)
        # Not the new values yet: another callback may still refuse them.
        self._snapshot = None
        return SetParametersResult(successful=True)


def descriptor(name: str) -> ParameterDescriptor:
    """Return description, range or choices of a parameter, and whether it is read-only."""
    entry, kind = SPECS[name], type(DEFAULTS[name])
    described = ParameterDescriptor(
        name=name,
        description=entry.description,
        read_only=entry.static,
        additional_constraints=entry.allowed(kind) if entry.choices or kind is tuple else '',
        # A bare `off` comes as false; what else is wrong is refused by our own check.
        dynamic_typing='off' in entry.choices,
    )
    if entry.low is not None and entry.high is not None:
        if kind is int:
            described.integer_range = [
                IntegerRange(from_value=int(entry.low), to_value=int(entry.high))
            ]
        elif kind is float:
            described.floating_point_range = [
                FloatingPointRange(from_value=entry.low, to_value=entry.high)
            ]
    return described


def _ros_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _settings(values: dict[str, Any]) -> DepthNodeSettings:
    return DepthNodeSettings(
        **{FIELD_NAMES[name]: coerce(name, value) for name, value in values.items()}
    )
