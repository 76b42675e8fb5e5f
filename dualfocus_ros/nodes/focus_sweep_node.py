# SPDX-License-Identifier: Apache-2.0
"""``focus_sweep_node``: move a lens through the planes of a focus sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.msg import FocusCommand, FocusState
from dualfocus_ros.nodes.lens_control import ParameterDriver, TopicDriver
from dualfocus_ros.nodes.lens_drivers import make_profile
from dualfocus_ros.nodes.lens_drivers.driver_client import DriverClientSettings
from dualfocus_ros.nodes.messages.lens_messages import (
    frame_metadata,
    lens_position,
    lens_reading_from_msg,
)
from dualfocus_ros.nodes.node_runner import run_node
from dualfocus_ros.nodes.parameters.parameter_declaration import declare_parameters
from dualfocus_ros.nodes.parameters.sweep_parameters import PARAMETERS, sweep_settings
from dualfocus_ros.nodes.qos import DIAGNOSTICS_QUEUE, AdaptiveQosSubscription, create_publisher
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)
from dualfocus_ros.sweep.sweep_controller import SweepController

_UPDATE_PERIOD = 0.02
_QUEUE = 10


class FocusSweepNode(Node):
    """Node that moves a lens in sweeps and publishes ``focus_command``; callbacks never block.

    A camera driver takes time to answer. From the call until its answer, and while the driver is
    lost, ``focus_command`` is NaN: no image gets a focus that the lens may not have.

    :raises ValueError: if a parameter is not allowed.
    """

    def __init__(self) -> None:
        super().__init__('focus_sweep')
        self._values = declare_parameters(self, PARAMETERS)
        self._profile = make_profile(self._values)
        self._controller = SweepController(sweep_settings(self._values, self._profile))
        warn = self.get_logger().warning
        self._commands = create_publisher(
            self.create_publisher, FocusCommand, 'focus_command', _QUEUE, warn
        )
        self._diagnostics = create_publisher(
            self.create_publisher, DiagnosticArray, '/diagnostics', DIAGNOSTICS_QUEUE, warn
        )
        self._driver = self._make_driver()
        in_metadata = self._profile is not None and bool(self._profile.metadata_topic)
        group = 'camera_ros' if in_metadata else 'command'
        model = SettlingModel(
            self._values[f'{group}.latency_frames'], self._values[f'{group}.settling_time']
        )
        self._commanded = CommandFocusSource(model)
        self._reported = PositionFocusSource(model)
        self._readings = self._subscribe_readings()
        self._position_known = False
        self._position_error_warned = False
        self.create_service(Trigger, '~/capture', self._on_capture)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(_UPDATE_PERIOD, self._update)
        self.create_timer(1.0, self._publish_diagnostics)
        planes = ', '.join(f'{plane:.3g}' for plane in self._controller.settings.planes)
        self.get_logger().info(
            f'{self._controller.settings.mode} sweep over {planes} dioptres; driver '
            f'{self._values["driver"]}, commands on {self._commands.topic_name}, '
            f'{self._readings}'
        )

    def close(self) -> None:
        """Restore autofocus and exposure of the camera."""
        self._retract_command()
        if isinstance(self._driver, ParameterDriver):
            self._driver.close()

    def _retract_command(self) -> None:
        """Publish NaN, because another client may move the lens from now on."""
        target = self._controller.target
        if self._profile is not None and self._position_known and target is not None:
            self._publish(target, known=False)

    def _make_driver(self) -> TopicDriver | ParameterDriver:
        values = self._values
        if self._profile is None:
            return TopicDriver(self._commands.get_subscription_count, self._on_driver_done)
        settings = DriverClientSettings(
            values['driver_timeout'], values['driver_check_period'], values['lock_exposure']
        )
        node_name = values['driver_node'] or self._profile.node_name
        return ParameterDriver(self, self._profile, node_name, settings, self._on_driver_done)

    def _subscribe_readings(self) -> AdaptiveQosSubscription:
        """Subscribe to the lens state, or to what the settling model estimates it from."""
        source: tuple[Any, str, Callable[[Any], None]]
        if self._profile is None:
            source = FocusState, 'focus_state', self._on_focus_state
        elif self._profile.metadata_topic:
            source = DiagnosticArray, 'metadata', self._on_metadata
        else:
            source = CameraInfo, 'camera_info', self._on_camera_info
        return AdaptiveQosSubscription(self, *source, _QUEUE)

    def _on_focus_state(self, msg: FocusState) -> None:
        self._on_reading(lens_reading_from_msg(msg))

    def _on_metadata(self, msg: DiagnosticArray) -> None:
        """Handle libcamera metadata: the commanded position of a frame, and not its state."""
        metadata = frame_metadata(msg)
        dioptres = lens_position(metadata)
        if dioptres is not None:
            assert isinstance(self._driver, ParameterDriver)
            self._driver.metadata = metadata
            self._on_reading(self._reported.reading(to_ns(msg.header.stamp), dioptres))

    def _on_camera_info(self, msg: CameraInfo) -> None:
        """Estimate the reading of a frame as the depth node does (focus_source command)."""
        reading = self._commanded.reading(to_ns(msg.header.stamp))
        if reading is not None:
            self._on_reading(reading)

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_reading(self, reading: LensReading) -> None:
        self._controller.add_reading(reading, self._now())
        self._update()

    def _update(self) -> None:
        if isinstance(self._driver, ParameterDriver):
            self._driver.tick()
        now = self._now()
        ready = self._driver.ready
        self._controller.set_listeners(int(ready), now, self._driver.problem)
        if not ready:
            self._retract_command()
        if self._driver.busy:
            return
        target = self._controller.update(now)
        error = self._controller.position_error
        if error and not self._position_error_warned:
            self.get_logger().warning(error)
        self._position_error_warned = bool(error)
        if target is None:
            return
        if self._profile is not None:
            self._publish(target, known=False)
        self._driver.move_to(target)

    def _on_driver_done(self, target: PlaneTarget, refusal: str) -> None:
        """Handle the driver's answer to a command."""
        if target != self._controller.target:  # the settings were replaced meanwhile
            return
        if refusal:
            self._controller.command_refused(refusal)
        else:
            self._controller.command_accepted(self._now())
            self._publish(target, known=True)

    def _publish(self, target: PlaneTarget, *, known: bool) -> None:
        """Publish a command; NaN dioptres while the position is unknown."""
        now = self.get_clock().now()
        dioptres = target.dioptres if known else math.nan
        msg = FocusCommand(
            focus_dioptres=dioptres,
            sweep_id=target.sweep_id,
            plane_index=target.plane_index,
            plane_count=target.plane_count,
        )
        msg.header.stamp = now.to_msg()
        self._position_known = known
        command = replace(target, dioptres=dioptres, stamp_ns=now.nanoseconds)
        self._commanded.add_command(command)
        self._commands.publish(msg)

    def _on_capture(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            number = self._controller.request_sweep()
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        count = len(self._controller.settings.planes)
        response.success, response.message = True, f'sweep {number} of {count} planes started'
        return response

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        specs = {spec.name: spec for spec in PARAMETERS}
        values = dict(self._values)
        try:
            for change in changes:
                if change.name in specs:
                    values[change.name] = specs[change.name].coerce(change.value)
            settings = sweep_settings(values, self._profile)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if settings != self._controller.settings:
            self._controller.configure(settings)
        self._values = values
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        self._readings.refresh()
        controller, node_name = self._controller, self.get_fully_qualified_name().lstrip('/')
        statuses = [
            DiagnosticStatus(
                name=f'{node_name}: sweep',
                hardware_id=self._values['driver'],
                level=DiagnosticStatus.WARN if controller.problem else DiagnosticStatus.OK,
                message=controller.problem or controller.settings.mode,
                values=[
                    KeyValue(key=key, value=str(value))
                    for key, value in self._diagnostic_values().items()
                ],
            )
        ]
        if isinstance(self._driver, ParameterDriver):
            driver = self._driver.status()
            driver.name = f'{node_name}: {driver.name}'
            statuses.append(driver)
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _diagnostic_values(self) -> dict[str, Any]:
        controller, target = self._controller, self._controller.target
        values: dict[str, Any] = {
            'mode': controller.settings.mode,
            'pattern': controller.settings.pattern,
            'planes': len(controller.settings.planes),
            'commanded dioptres': 'none' if target is None else f'{target.dioptres:.4f}',
            'reported dioptres': f'{controller.measured:.4f}',
            'waiting for': controller.waiting_for,
            'sweeps': controller.counts.sweeps,
            'sweep rate (Hz)': f'{controller.counts.rate:.3f}',
            'commands': controller.counts.commands,
            'commands repeated': controller.counts.resent,
            'planes skipped': controller.counts.skipped_planes,
            'lens faults': controller.counts.faults,
        }
        if target is not None and target.plane_count:
            values['sweep'] = target.sweep_id
            values['plane'] = f'{target.plane_index + 1} of {target.plane_count}'
        return values


def create_node() -> FocusSweepNode:
    """Return the node of the executable ``focus_sweep_node``."""
    return FocusSweepNode()


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; return the exit code."""
    return run_node('focus_sweep_node', args)
