# SPDX-License-Identifier: Apache-2.0
"""Non-blocking client of another node's parameter services.

``rclpy.parameter_client`` is not used: Humble may lack it, and it creates twice the clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from dualfocus_ros.nodes.lens_control.parameter_calls import ParameterCall, ParameterService

_TYPES = {
    ParameterService.LIST: ListParameters,
    ParameterService.GET: GetParameters,
    ParameterService.SET: SetParametersAtomically,
}


class ParameterServices:
    """Client of the parameter services of one node.

    :param node_name: name of that node, absolute or relative to the namespace of ``node``.
    """

    def __init__(self, node: Node, node_name: str) -> None:
        self._clients = {
            service: node.create_client(kind, f'{node_name}/{service.value}')
            for service, kind in _TYPES.items()
        }
        self._pending: tuple[Any, Any] | None = None

    @property
    def available(self) -> bool:
        """Whether all services are available."""
        return all(client.service_is_ready() for client in self._clients.values())

    def send(self, call: ParameterCall, on_answer: Callable[[ParameterCall, Any], None]) -> Any:
        """Make a call and return its future; an unanswered call is cancelled.

        :param on_answer: called by the executor with the call and its answer.
        """
        self.cancel()
        client = self._clients[call.service]
        future = client.call_async(_request(call))
        self._pending = client, future

        def handle(done: Any) -> None:
            if not done.cancelled():
                on_answer(call, _answer(call, done.result()))

        future.add_done_callback(handle)
        return future

    def cancel(self) -> None:
        """Cancel the pending call."""
        if self._pending is not None:
            client, future = self._pending
            client.remove_pending_request(future)
            self._pending = None


def _request(call: ParameterCall) -> Any:
    if call.service == ParameterService.LIST:
        return ListParameters.Request()
    if call.service == ParameterService.GET:
        return GetParameters.Request(names=list(call.names))
    return SetParametersAtomically.Request(
        parameters=[
            Parameter(name, value=value).to_parameter_msg()
            for name, value in (call.values or {}).items()
        ]
    )


def _answer(call: ParameterCall, response: Any) -> Any:
    if call.service == ParameterService.LIST:
        return list(response.result.names)
    if call.service == ParameterService.GET:
        # A driver that lacks one of the parameters returns none of them.
        values = [parameter_value_to_python(value) for value in response.values]
        return dict(zip(call.names, values))
    result = response.result
    return '' if result.successful else result.reason or 'without a reason'
