# SPDX-License-Identifier: Apache-2.0
"""Movement of the lens: through ``focus_command``, or through a driver's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_control.driver_client import DriverClientSettings, LensDriverClient
from dualfocus_ros.nodes.lens_control.driver_status import DriverState
from dualfocus_ros.nodes.lens_control.parameter_calls import ParameterCall, ParameterService
from dualfocus_ros.nodes.lens_control.parameter_services import ParameterServices
from dualfocus_ros.nodes.lens_drivers import DriverProfile
from dualfocus_ros.sweep.sweep_controller import NO_CAMERA

# Seconds to restore the driver's parameters; the process is killed after 1.7 s.
_RESTORE_TIMEOUT = 1.0
_LEVELS = {DriverState.READY: DiagnosticStatus.OK, DriverState.SETTING_UP: DiagnosticStatus.OK}

# Called with each target and the reason of its refusal, empty on success.
OnDone = Callable[[PlaneTarget, str], None]


class LensDriver(Protocol):
    """Interface that moves the lens.

    :ivar ready: whether the lens can be moved.
    :ivar problem: reason why not.
    :ivar busy: whether a target has not been set yet.
    """

    @property
    def ready(self) -> bool: ...
    @property
    def problem(self) -> str: ...
    @property
    def busy(self) -> bool: ...

    def tick(self) -> None:
        """Advance; call this many times a second."""

    def move_to(self, target: PlaneTarget) -> None:
        """Move the lens; ``on_done`` is called later."""

    def status(self) -> DiagnosticStatus | None:
        """Return the diagnostic status of the driver; None: none."""

    def close(self) -> None:
        """Restore the driver's parameters."""


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
        return self._count_subscribers() > 0

    def tick(self) -> None:
        pass

    def move_to(self, target: PlaneTarget) -> None:
        self._on_done(target, '')

    def status(self) -> None:
        return None

    def close(self) -> None:
        pass


class ParameterDriver:
    """A camera driver whose parameters move the lens.

    :param node_name: name of the driver's node.
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
        self._node = node
        self._services = ParameterServices(node, node_name)
        self._client = LensDriverClient(profile, node_name, settings, on_done)
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._client.ready

    @property
    def problem(self) -> str:
        return self._client.problem

    @property
    def busy(self) -> bool:
        return self._client.busy

    def set_metadata(self, metadata: Mapping[str, str]) -> None:
        """Set the metadata of the newest frame."""
        self._client.metadata = metadata

    def tick(self) -> None:
        if not self._closed:
            self._send(self._client.update(time.monotonic(), self._services.available))

    def move_to(self, target: PlaneTarget) -> None:
        self._client.move_to(target)
        self.tick()

    def status(self) -> DiagnosticStatus:
        client = self._client
        counts = client.counts
        values = {
            'driver': client.profile.name,
            'node': client.node_name,
            'state': client.state.value,
            'last error': client.last_error,
            'locked': ', '.join(client.locked),
            'no switch for': ', '.join(client.missing_switches),
            'calls': counts.calls,
            'calls unanswered': counts.timeouts,
            'set-ups': counts.set_ups,
            'positions set': counts.positions,
            'positions refused': counts.refused,
        }
        return DiagnosticStatus(
            name='driver',
            hardware_id=client.node_name,
            level=_LEVELS.get(client.state, DiagnosticStatus.WARN),
            message=client.problem or 'ready',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def close(self) -> None:
        self._closed = True
        values = self._client.restore_values()
        if not values or not self._services.available:
            return
        call = ParameterCall(ParameterService.SET, values=values)
        future = self._services.send(call, lambda call, answer: None)
        # A separate executor: the node has already left the one that it ran in.
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        executor.spin_until_future_complete(future, timeout_sec=_RESTORE_TIMEOUT)
        executor.remove_node(self._node)
        executor.shutdown()

    def _send(self, call: ParameterCall | None) -> None:
        if call is not None:
            self._services.send(call, self._handle_answer)
        logger = self._node.get_logger()
        for notice in self._client.notices.take_all():
            # Separate calls: rclpy refuses another severity from one line of code.
            if notice.warning:
                logger.warning(notice.text)
            else:
                logger.info(notice.text)

    def _handle_answer(self, call: ParameterCall, answer: Any) -> None:
        if not self._closed:
            self._send(self._client.handle_answer(call, answer, time.monotonic()))
