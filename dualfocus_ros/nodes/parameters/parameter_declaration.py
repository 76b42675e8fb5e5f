# SPDX-License-Identifier: Apache-2.0
"""ROS parameters of the nodes: declaration, and changes of those of the depth node."""

from __future__ import annotations

from collections.abc import Sequence
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

from dualfocus_ros.nodes.parameters.depth_parameters import (
    PARAMETERS,
    SPECS,
    DepthNodeSettings,
    settings_from,
)
from dualfocus_ros.nodes.parameters.derived_settings import validate
from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec


def descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    """Return description, range or choices of a parameter in ROS's form."""
    described = ParameterDescriptor(
        name=spec.name,
        description=spec.description,
        read_only=spec.read_only,
        additional_constraints=spec.allowed if spec.choices or spec.type is tuple else '',
        # A bare `off` arrives as false; `ParameterSpec.coerce` refuses other types.
        dynamic_typing='off' in spec.choices,
    )
    if spec.low is not None and spec.high is not None:
        if spec.type is int:
            described.integer_range = [
                IntegerRange(from_value=int(spec.low), to_value=int(spec.high))
            ]
        elif spec.type is float:
            described.floating_point_range = [
                FloatingPointRange(from_value=spec.low, to_value=spec.high)
            ]
    return described


def declare_parameter(node: Node, spec: ParameterSpec) -> Any:
    """Declare a parameter and return its initial value.

    The first declaration accepts any type, to read the given value: an integer is accepted for a
    number, which ROS itself refuses, and an error names the allowed values.

    :raises ValueError: if the given value is not allowed; the parameter then has its default.
    """
    given = node.declare_parameter(
        spec.name, _ros_value(spec.default), ParameterDescriptor(dynamic_typing=True)
    ).value
    node.undeclare_parameter(spec.name)
    value = spec.default
    try:
        value = spec.coerce(given)
    finally:
        # An empty list has no type: declared by its type, without a value.
        declared = Parameter.Type.DOUBLE_ARRAY if value == () else _ros_value(value)
        node.declare_parameter(spec.name, declared, descriptor(spec), ignore_override=True)
    return value


def declare_parameters(node: Node, table: Sequence[ParameterSpec]) -> dict[str, Any]:
    """Declare all parameters of a table and return their values by name.

    :raises ValueError: if given values are not allowed; the text names all of them.
    """
    values, errors = {}, []
    for spec in table:
        try:
            values[spec.name] = declare_parameter(node, spec)
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError('; '.join(errors))
    return values


def _ros_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class DynamicParameters:
    """The parameters of a depth node.

    A wrong value at start does not end the process: the parameter has its default, and
    ``problems`` contains the error, so that the transition `configure` fails with that reason.
    A wrong value at run time is refused, together with all others of the same call.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._errors: dict[str, str] = {}
        self._snapshot: DepthNodeSettings | None = None
        for spec in PARAMETERS:
            try:
                declare_parameter(node, spec)
            except ValueError as error:
                self._errors[spec.name] = str(error)
        node.add_on_set_parameters_callback(self._on_set)

    @property
    def problems(self) -> list[str]:
        """Errors in the values given at start that were not corrected since."""
        return [*self._errors.values(), *validate(self.current())]

    def current(self) -> DepthNodeSettings:
        """Return all values; the same object until one changes. For the executor's thread."""
        if self._snapshot is None:
            self._snapshot = settings_from(self._values())
        return self._snapshot

    def _values(self) -> dict[str, Any]:
        values = {}
        for name in SPECS:
            try:
                values[name] = self._node.get_parameter(name).value
            except ParameterUninitializedException:  # an empty list
                values[name] = ()
        return values

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        changes = [change for change in changes if change.name in SPECS]
        if not changes:
            return SetParametersResult(successful=True)
        values = self._values() | {change.name: change.value for change in changes}
        known = set(validate(self.current()))
        try:
            errors = [text for text in validate(settings_from(values)) if text not in known]
        except ValueError as error:
            errors = [str(error)]
        if errors:
            return SetParametersResult(successful=False, reason='; '.join(errors))
        for change in changes:
            self._errors.pop(change.name, None)
        # Values are read later: another callback may still refuse the change.
        self._snapshot = None
        return SetParametersResult(successful=True)
