# SPDX-License-Identifier: Apache-2.0
"""Calls to the parameter services of another node, answered by callbacks; nothing waits.

Not ``rclpy.parameter_client``: Humble may lack it, and it has twice the clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from dualfocus_ros.nodes.lens_drivers.parameter_client import Call, ParameterService

_SERVICES = {
    ParameterService.LIST: ListParameters,
    ParameterService.GET: GetParameters,
    ParameterService.SET: SetParametersAtomically,
}


class ParameterServices:
    """The parameter services of one node.

    :param target: its name, absolute or relative to the namespace of ``node``.
    """

    def __init__(self, node: Node, target: str) -> None:
        self._clients = {
            kind: node.create_client(service, f'{target}/{kind.value}')
            for kind, service in _SERVICES.items()
        }
        self._pending: tuple[Any, Any] | None = None

    @property
    def present(self) -> bool:
        """Whether all services are there."""
        return all(client.service_is_ready() for client in self._clients.values())

    def send(self, call: Call, answer: Callable[[Call, Any], None]) -> Any:
        """Make a call; ``answer`` gets its answer from the executor. Returns the future.

        A call that was still unanswered is forgotten.
        """
        self.forget()
        client = self._clients[call.kind]
        future = client.call_async(_request(call))
        self._pending = client, future

        def on_answer(done: Any) -> None:
            if not done.cancelled():
                answer(call, _answer(call, done.result()))

        future.add_done_callback(on_answer)
        return future

    def forget(self) -> None:
        """Forget the call under way."""
        if self._pending is not None:
            client, future = self._pending
            client.remove_pending_request(future)
            self._pending = None


def _request(call: Call) -> Any:
    if call.kind == ParameterService.LIST:
        return ListParameters.Request()
    if call.kind == ParameterService.GET:
        return GetParameters.Request(names=list(call.names))
    return SetParametersAtomically.Request(
        parameters=[
            Parameter(name, value=value).to_parameter_msg()
            for name, value in (call.values or {}).items()
        ]
    )


def _answer(call: Call, response: Any) -> Any:
    if call.kind == ParameterService.LIST:
        return list(response.result.names)
    if call.kind == ParameterService.GET:
        # A driver that lacks one of the parameters returns none of them.
        values = [parameter_value_to_python(value) for value in response.values]
        return dict(zip(call.names, values))
    result = response.result
    return '' if result.successful else result.reason or 'without a reason'
