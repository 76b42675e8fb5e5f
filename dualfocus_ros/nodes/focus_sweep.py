# SPDX-License-Identifier: Apache-2.0
"""The node around the sweep plan: focus commands out, focus reports in."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.msg import FocusCommand
from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile
from dualfocus_ros.nodes.lens_drivers.drivers import (
    DRIVERS,
    TOPIC,
    LensDriver,
    ParameterDriver,
    TopicDriver,
    make_profile,
)
from dualfocus_ros.nodes.lens_drivers.lens_readings import (
    FocusStateSource,
    LensReadingSource,
    MetadataSource,
    SettlingModelSource,
)
from dualfocus_ros.nodes.lens_drivers.parameter_client import DriverClientSettings
from dualfocus_ros.nodes.parameter_declaration import declare_parameters
from dualfocus_ros.nodes.parameter_spec import ParameterSpec
from dualfocus_ros.nodes.qos import create_publisher
from dualfocus_ros.sweep.focus_sources import SettlingModel
from dualfocus_ros.sweep.sweep_controller import SweepController
from dualfocus_ros.sweep.sweep_settings import MODES, PATTERNS, SweepSettings, uniform_planes

_POLL_PERIOD = 0.02
_KEPT = 10

PARAMETERS = (
    ParameterSpec(
        'driver',
        TOPIC,
        'How the lens is driven: topic by focus_command; camera_ros, v4l2 '
        '(v4l2_camera) and depthai through the parameters of that driver.',
        choices=DRIVERS,
        read_only=True,
    ),
    ParameterSpec(
        'driver_node',
        '',
        'Name of the node of the driver; empty: camera for camera_ros, '
        'v4l2_camera for v4l2, oak for depthai.',
        read_only=True,
    ),
    ParameterSpec(
        'driver_prefix',
        '',
        'What stands before the names of the parameters of an OAK camera; '
        'empty: rgb. (driver depthai).',
        read_only=True,
    ),
    ParameterSpec(
        'driver_timeout',
        1.0,
        'Seconds that a driver may take for an answer, and between attempts to set it up.',
        0.05,
        60.0,
        read_only=True,
    ),
    ParameterSpec(
        'driver_check_period',
        1.0,
        'Seconds between two looks at whether the driver still has what it was given.',
        0.1,
        60.0,
        read_only=True,
    ),
    ParameterSpec(
        'lock_exposure',
        True,
        'Hold exposure, gain and white balance still during sweeps, '
        'where the driver has parameters for that.',
        read_only=True,
    ),
    ParameterSpec(
        'calibration.positions',
        (),
        'Positions of the lens in the unit of the driver (drivers '
        'v4l2 and depthai); `dualfocus calibrate focus` measures them.',
        -1e6,
        1e6,
        read_only=True,
    ),
    ParameterSpec(
        'calibration.dioptres',
        (),
        'What these positions focus at in 1/m, strictly up or down.',
        -50.0,
        100.0,
        read_only=True,
    ),
    ParameterSpec(
        'mode',
        'continuous',
        'continuous sweeps without end, once sweeps at each call of '
        '~/capture, hold rests at hold_dioptres.',
        choices=MODES,
    ),
    ParameterSpec(
        'pattern',
        'triangle',
        'triangle turns round at the last plane, sawtooth flies back.',
        choices=PATTERNS,
    ),
    ParameterSpec('near_dioptres', 2.5, 'Nearest plane in 1/m.', 0.0, 50.0),
    ParameterSpec('far_dioptres', 0.2, 'Farthest plane in 1/m; 0 is infinity.', 0.0, 50.0),
    ParameterSpec(
        'count',
        8,
        'Number of planes, uniform in dioptres from near to far.',
        MIN_PLANES,
        MAX_PLANES,
    ),
    ParameterSpec(
        'planes_dioptres',
        (),
        'Planes in 1/m, in their order, instead of near, far and count.',
        0.0,
        50.0,
    ),
    ParameterSpec('hold_dioptres', 1.0, 'Focus of mode hold in 1/m.', 0.0, 50.0),
    ParameterSpec(
        'tolerance',
        0.02,
        'Dioptres between report and command that count as arrived.',
        1e-4,
        1.0,
    ),
    ParameterSpec('settle_frames', 1, 'Frames on target before the next plane.', 1, 100),
    ParameterSpec('settle_time', 0.0, 'Seconds on target before the next plane.', 0.0, 10.0),
    ParameterSpec(
        'model_time',
        0.3,
        'Seconds for each plane where no focus is reported.',
        0.0,
        10.0,
    ),
    ParameterSpec(
        'report_timeout',
        1.0,
        'Seconds without a report after which none is expected; three '
        'times as long before the first one.',
        0.05,
        60.0,
    ),
    ParameterSpec(
        'resend_time',
        0.5,
        'Seconds after which a command that is not obeyed is repeated.',
        0.05,
        60.0,
    ),
    ParameterSpec(
        'plane_timeout',
        4.0,
        'Seconds after which a plane that is never reached is given up.',
        0.1,
        600.0,
    ),
    ParameterSpec(
        'command.latency_frames',
        2,
        'Images after a command that still show the old position '
        'or the movement (drivers v4l2 and depthai); as in the depth node.',
        0,
        60,
        read_only=True,
    ),
    ParameterSpec(
        'command.settling_time',
        0.1,
        'Seconds after a command until the lens rests (drivers '
        'v4l2 and depthai); as in the depth node.',
        0.0,
        10.0,
        read_only=True,
    ),
    ParameterSpec(
        'camera_ros.latency_frames',
        0,
        'Images after a new LensPosition during which the lens '
        'still moves (driver camera_ros); as in the depth node.',
        0,
        60,
        read_only=True,
    ),
    ParameterSpec(
        'camera_ros.settling_time',
        0.0,
        'Seconds after a new LensPosition until the lens rests '
        '(driver camera_ros); as in the depth node.',
        0.0,
        10.0,
        read_only=True,
    ),
)


class FocusSweepNode(Node):
    """Leads a lens through sweeps and publishes ``focus_command``; never waits.

    A driver of parameters takes its time. From the moment that it is asked until it has agreed,
    and whenever it is lost, ``focus_command`` says NaN, so that no image is ever given a focus
    that the lens may not have.

    :raises ValueError: if a parameter is not allowed.
    """

    def __init__(self) -> None:
        super().__init__('focus_sweep')
        self._values = declare_parameters(self, PARAMETERS)
        self._profile = make_profile(self._values)
        self._controller = SweepController(_settings(self._values, self._profile))
        warn = self.get_logger().warning
        self._commands = create_publisher(
            self.create_publisher, FocusCommand, 'focus_command', _KEPT, warn
        )
        self._diagnostics = create_publisher(
            self.create_publisher, DiagnosticArray, '/diagnostics', _KEPT, warn
        )
        self._driver = self._make_driver()
        self._reports = self._make_reports()
        self._known = False
        self._position_error_warned = False
        self.create_service(Trigger, '~/capture', self._on_capture)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(_POLL_PERIOD, self._advance)
        self.create_timer(1.0, self._on_second)
        planes = ', '.join(f'{plane:.3g}' for plane in self._controller.settings.planes)
        self.get_logger().info(
            f'{self._controller.settings.mode} sweep over {planes} dioptres; driver '
            f'{self._values["driver"]}, commands on {self._commands.topic_name}, '
            f'{self._reports.subscription}'
        )

    def close(self) -> None:
        """Give the camera its autofocus and exposure back."""
        self._forget()
        self._driver.close()

    def _forget(self) -> None:
        """Take back the last command, because the lens may go elsewhere from now on."""
        if self._profile is not None and self._known and self._controller.target is not None:
            self._publish(self._controller.target, known=False)

    def _make_driver(self) -> LensDriver:
        values = self._values
        if self._profile is None:
            return TopicDriver(self._commands.get_subscription_count, self._on_done)
        settings = DriverClientSettings(
            values['driver_timeout'], values['driver_check_period'], values['lock_exposure']
        )
        target = values['driver_node'] or self._profile.node
        return ParameterDriver(self, self._profile, target, settings, self._on_done)

    def _make_reports(self) -> LensReadingSource:
        if isinstance(self._driver, TopicDriver):
            return FocusStateSource(self, self._on_reading)
        assert isinstance(self._driver, ParameterDriver)
        source = 'camera_ros' if self._values['driver'] == 'camera_ros' else 'command'
        model = SettlingModel(
            self._values[f'{source}.latency_frames'], self._values[f'{source}.settling_time']
        )
        if source == 'camera_ros':
            return MetadataSource(self, self._on_reading, model, self._driver.observe)
        return SettlingModelSource(self, self._on_reading, model)

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_reading(self, reading: LensReading) -> None:
        self._controller.add_reading(reading, self._now())
        self._advance()

    def _advance(self) -> None:
        self._driver.tick()
        now = self._now()
        ready = self._driver.ready
        self._controller.set_listeners(int(ready), now, self._driver.problem)
        if not ready:
            self._forget()
        if self._driver.busy:
            return
        target = self._controller.update(now)
        self._warn_of_position_error()
        if target is None:
            return
        if self._profile is not None:
            self._publish(target, known=False)
        self._driver.move_to(target)

    def _on_done(self, target: PlaneTarget, refusal: str) -> None:
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
        target = replace(target, dioptres=dioptres, stamp_ns=now.nanoseconds)
        msg = FocusCommand(
            focus_dioptres=dioptres,
            sweep_id=target.sweep_id,
            plane_index=target.plane_index,
            plane_count=target.plane_count,
        )
        msg.header.stamp = now.to_msg()
        self._known = known
        self._reports.on_command(target)
        self._commands.publish(msg)

    def _warn_of_position_error(self) -> None:
        text = self._controller.position_error
        if text and not self._position_error_warned:
            self.get_logger().warning(text)
        self._position_error_warned = bool(text)

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
        entries = {entry.name: entry for entry in PARAMETERS}
        values = dict(self._values)
        try:
            for change in changes:
                if change.name in entries:
                    values[change.name] = entries[change.name].coerce(change.value)
            settings = _settings(values, self._profile)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if settings != self._controller.settings:
            self._controller.configure(settings)
        self._values = values
        return SetParametersResult(successful=True)

    def _on_second(self) -> None:
        self._reports.subscription.refresh()
        controller = self._controller
        status = DiagnosticStatus(
            name=f'{self.get_fully_qualified_name().lstrip("/")}: sweep',
            hardware_id=self._values['driver'],
            level=DiagnosticStatus.WARN if controller.problem else DiagnosticStatus.OK,
            message=controller.problem or controller.settings.mode,
        )
        status.values = [KeyValue(key=k, value=str(v)) for k, v in self._figures().items()]
        message = DiagnosticArray(status=[status])
        driver = self._driver.status()
        if driver is not None:
            driver.name = f'{self.get_fully_qualified_name().lstrip("/")}: {driver.name}'
            message.status.append(driver)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _figures(self) -> dict[str, Any]:
        controller, target = self._controller, self._controller.target
        figures: dict[str, Any] = {
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
            figures['sweep'] = target.sweep_id
            figures['plane'] = f'{target.plane_index + 1} of {target.plane_count}'
        return figures


def _settings(values: dict[str, Any], profile: DriverProfile | None) -> SweepSettings:
    planes = values['planes_dioptres'] or uniform_planes(
        values['near_dioptres'], values['far_dioptres'], values['count']
    )
    hold = values['hold_dioptres']
    if profile is not None:
        planes = [profile.nearest(plane) for plane in planes]
        hold = profile.nearest(hold) if values['mode'] == 'hold' else hold
    names = (
        'mode',
        'pattern',
        'tolerance',
        'settle_frames',
        'settle_time',
        'model_time',
        'report_timeout',
        'resend_time',
        'plane_timeout',
    )
    return SweepSettings(tuple(planes), hold=hold, **{name: values[name] for name in names})
