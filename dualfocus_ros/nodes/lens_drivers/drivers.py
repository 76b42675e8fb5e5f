# SPDX-License-Identifier: Apache-2.0
"""The lens as the sweep sees it, however it is driven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.camera_ros import CameraRos
from dualfocus_ros.nodes.lens_drivers.depthai import Depthai
from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile
from dualfocus_ros.nodes.lens_drivers.parameter_client import (
    Call,
    DriverClientSettings,
    DriverState,
    LensDriverClient,
    ParameterService,
)
from dualfocus_ros.nodes.lens_drivers.service_calls import ParameterServices
from dualfocus_ros.nodes.lens_drivers.v4l2 import V4l2
from dualfocus_ros.sweep.sweep_controller import NO_CAMERA

TOPIC = 'topic'
DRIVERS = (TOPIC, CameraRos.name, V4l2.name, Depthai.name)

# A process is given 1.7 s to end.
_FAREWELL = 1.0
_LEVELS = {DriverState.READY: DiagnosticStatus.OK, DriverState.SETTING_UP: DiagnosticStatus.OK}


class LensDriver(Protocol):
    """What drives the lens.

    :ivar ready: whether a command would be heard.
    :ivar problem: why not.
    :ivar busy: whether a command is still on its way to the lens.
    """

    @property
    def ready(self) -> bool: ...
    @property
    def problem(self) -> str: ...
    @property
    def busy(self) -> bool: ...

    def tick(self) -> None:
        """Go on; to be called many times a second."""

    def move_to(self, target: PlaneTarget) -> None:
        """Send the lens somewhere; whether it obeys is told to ``done`` later."""

    def status(self) -> DiagnosticStatus | None:
        """Return the state of the driver for diagnostics, if there is more than the sweep's."""

    def close(self) -> None:
        """Leave the driver as it was found."""


class TopicDriver:
    """A lens that listens to ``focus_command``.

    :param listeners: returns how many do.
    :param done: told of each command as soon as it was given.
    """

    busy = False
    problem = NO_CAMERA

    def __init__(
        self, listeners: Callable[[], int], done: Callable[[PlaneTarget, str], None]
    ) -> None:
        self._listeners = listeners
        self._done = done

    @property
    def ready(self) -> bool:
        return self._listeners() > 0

    def tick(self) -> None:
        pass

    def move_to(self, target: PlaneTarget) -> None:
        self._done(target, '')

    def status(self) -> None:
        return None

    def close(self) -> None:
        pass


class ParameterDriver:
    """A lens that is moved by setting parameters of a camera driver.

    :param target: name of the driver's node.
    :param done: told of each command that the driver has taken, or why it has not.
    """

    def __init__(
        self,
        node: Node,
        profile: DriverProfile,
        target: str,
        settings: DriverClientSettings,
        done: Callable[[PlaneTarget, str], None],
    ) -> None:
        self._node = node
        self._calls = ParameterServices(node, target)
        self._session = LensDriverClient(profile, target, settings, done)
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._session.ready

    @property
    def problem(self) -> str:
        return self._session.problem

    @property
    def busy(self) -> bool:
        return self._session.busy

    def observe(self, metadata: Mapping[str, str]) -> None:
        """Take the metadata of a frame."""
        self._session.metadata = metadata

    def tick(self) -> None:
        if not self._closed:
            self._send(self._session.update(time.monotonic(), self._calls.present))

    def move_to(self, target: PlaneTarget) -> None:
        self._session.command(target)
        self.tick()

    def status(self) -> DiagnosticStatus:
        session = self._session
        counts = session.counts
        values = {
            'driver': session.profile.name,
            'node': session.target,
            'state': session.state.value,
            'last error': session.last_error,
            'held still': ', '.join(session.held),
            'without a switch for': ', '.join(session.missing_switches),
            'calls': counts.calls,
            'calls without an answer': counts.timeouts,
            'times set up': counts.set_ups,
            'positions taken': counts.positions,
            'positions refused': counts.refused,
        }
        return DiagnosticStatus(
            name='driver',
            hardware_id=session.target,
            level=_LEVELS.get(session.state, DiagnosticStatus.WARN),
            message=session.problem or 'ready',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def close(self) -> None:
        self._closed = True
        values = self._session.restore_values()
        if not values or not self._calls.present:
            return
        future = self._calls.send(
            Call(ParameterService.SET, values=values), lambda call, answer: None
        )
        # Not in a callback: the node has already left the executor that it ran in.
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        executor.spin_until_future_complete(future, timeout_sec=_FAREWELL)
        executor.remove_node(self._node)
        executor.shutdown()

    def _send(self, call: Call | None) -> None:
        if call is not None:
            self._calls.send(call, self._on_answer)
        logger = self._node.get_logger()
        while self._session.notices:
            warning, text = self._session.notices.popleft()
            if warning:
                logger.warning(text)
            else:
                logger.info(text)

    def _on_answer(self, call: Call, answer: Any) -> None:
        if not self._closed:
            self._send(self._session.answered(call, answer, time.monotonic()))


def make_profile(values: Mapping[str, Any]) -> DriverProfile | None:
    """Return the dialect that the parameters of the node ask for; None for the topic.

    :raises ValueError: without the calibration that it needs.
    """
    name = values['driver']
    positions, dioptres = values['calibration.positions'], values['calibration.dioptres']
    if name == CameraRos.name:
        return CameraRos()
    if name == V4l2.name:
        return V4l2(positions, dioptres)
    if name == Depthai.name:
        return Depthai(positions, dioptres, values['driver_prefix'])
    return None
