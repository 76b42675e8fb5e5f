# SPDX-License-Identifier: Apache-2.0
"""Movement of the lens: through ``focus_command``, or through a driver's parameters."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.driver_client import (
    DriverClientSettings,
    DriverState,
    LensDriverClient,
)
from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile
from dualfocus_ros.nodes.lens_drivers.parameter_calls import ParameterCall, ParameterService
from dualfocus_ros.sweep.sweep_controller import NO_CAMERA

# Seconds to restore the driver's parameters; the process is killed after 1.7 s.
_RESTORE_TIMEOUT = 1.0
_SERVICES = {
    ParameterService.LIST: ListParameters,
    ParameterService.GET: GetParameters,
    ParameterService.SET: SetParametersAtomically,
}

# Called with each target and the reason of its refusal, empty on success.
OnDone = Callable[[PlaneTarget, str], None]


class TopicDriver:
    """A lens node that subscribes to ``focus_command``.

    :param count_subscribers: returns the number of subscribers.
    :param on_done: called at once with each target.
    """

    busy = False
    problem = NO_CAMERA

    def __init__(self, count_subscribers: Callable[[], int], on_done: OnDone) -> None:
        self._count_subscribers = count_subscribers
        self._on_done = on_done

    @property
    def ready(self) -> bool:
        """Whether the lens can be moved."""
        return self._count_subscribers() > 0

    def move_to(self, target: PlaneTarget) -> None:
        """Report the target as done: the node publishes it."""
        self._on_done(target, '')


class ParameterDriver(LensDriverClient):
    """A camera driver whose parameters move the lens; calls never block.

    ``rclpy.parameter_client`` is not used: Humble may lack it, and it creates twice the clients.

    :param node_name: name of the driver's node, absolute or relative to the namespace of ``node``.
    :param on_done: called with each target that the driver accepted or refused.
    """

    def __init__(
        self,
        node: Node,
        profile: DriverProfile,
        node_name: str,
        settings: DriverClientSettings,
        on_done: OnDone,
    ) -> None:
        super().__init__(profile, node_name, settings, on_done, node.get_logger())
        self._node = node
        self._clients = {
            service: node.create_client(kind, f'{node_name}/{service.value}')
            for service, kind in _SERVICES.items()
        }
        self._pending: tuple[Any, Any] | None = None
        self._closed = False

    def tick(self) -> None:
        """Advance; call this many times a second."""
        if not self._closed:
            self._send(self.update(time.monotonic(), self._available()))

    def move_to(self, target: PlaneTarget) -> None:
        """Move the lens; ``on_done`` is called later."""
        super().move_to(target)
        self.tick()

    def status(self) -> DiagnosticStatus:
        """Return the diagnostic status of the driver."""
        values = {
            'driver': self.profile.name,
            'node': self.node_name,
            'state': self.state.value,
            'last error': self.last_error,
            'locked': ', '.join(self.locked),
            'no switch for': ', '.join(self.missing_switches),
            'calls': self.counts.calls,
            'calls unanswered': self.counts.timeouts,
            'set-ups': self.counts.set_ups,
            'positions set': self.counts.positions,
            'positions refused': self.counts.refused,
        }
        ok = self.state in (DriverState.READY, DriverState.SETTING_UP)
        return DiagnosticStatus(
            name='driver',
            hardware_id=self.node_name,
            level=DiagnosticStatus.OK if ok else DiagnosticStatus.WARN,
            message=self.problem or 'ready',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def close(self) -> None:
        """Restore the driver's parameters."""
        self._closed = True
        values = self.restore_values()
        if not values or not self._available():
            return
        future = self._send(ParameterCall(ParameterService.SET, values=values))
        # A separate executor: the node has already left the one that it ran in.
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        executor.spin_until_future_complete(future, timeout_sec=_RESTORE_TIMEOUT)
        executor.remove_node(self._node)
        executor.shutdown()

    def _available(self) -> bool:
        return all(client.service_is_ready() for client in self._clients.values())

    def _send(self, call: ParameterCall | None) -> Any:
        """Make a call, if any, and return its future; an unanswered call is cancelled."""
        if call is None:
            return None
        if self._pending is not None:
            client, future = self._pending
            client.remove_pending_request(future)
        client = self._clients[call.service]
        future = client.call_async(_request(call))
        self._pending = client, future

        def handle(done: Any) -> None:
            if not done.cancelled() and not self._closed:
                answer = _answer(call, done.result())
                self._send(self.handle_answer(call, answer, time.monotonic()))

        future.add_done_callback(handle)
        return future


def _request(call: ParameterCall) -> Any:
    if call.service == ParameterService.LIST:
        return ListParameters.Request()
    if call.service == ParameterService.GET:
        return GetParameters.Request(names=list(call.names))
    values = (call.values or {}).items()
    return SetParametersAtomically.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values]
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
