# SPDX-License-Identifier: Apache-2.0
"""Parameters of the running depth node: declaration, checks of changes, snapshots."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import SetParametersResult
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
from dualfocus_ros.nodes.parameters.parameter_declaration import declare_parameter


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
        return {spec.name: self._value(spec.name) for spec in PARAMETERS}

    def _value(self, name: str) -> Any:
        try:
            return self._node.get_parameter(name).value
        except ParameterUninitializedException:
            return ()

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
