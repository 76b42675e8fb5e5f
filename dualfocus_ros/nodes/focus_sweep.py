# SPDX-License-Identifier: Apache-2.0
"""The node around the sweep plan: focus commands out, focus reports in."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from dualfocus_ros.msg import FocusCommand, FocusState
from dualfocus_ros.nodes.declare import Entry, declare
from dualfocus_ros.nodes.qos import OfferedSubscription, create_publisher
from dualfocus_ros.stacks.pairing import LensState
from dualfocus_ros.stacks.sweep_plan import (
    MODES,
    PATTERNS,
    Report,
    Step,
    SweepPlan,
    SweepSettings,
    uniform_planes,
)
from dualfocus_ros.stacks.types import MAX_PLANES, MIN_PLANES

_POLL_PERIOD = 0.02
_KEPT = 10

PARAMETERS = (
    Entry('driver', 'topic', 'How the lens is driven: topic publishes focus_command.',
          choices=('topic',)),
    Entry('mode', 'continuous', 'continuous sweeps without end, once sweeps at each call of '
          '~/capture, hold rests at hold_dioptres.', choices=MODES, fixed=False),
    Entry('pattern', 'triangle', 'triangle turns round at the last plane, sawtooth flies back.',
          choices=PATTERNS, fixed=False),
    Entry('near_dioptres', 2.5, 'Nearest plane in 1/m.', 0.0, 50.0, fixed=False),
    Entry('far_dioptres', 0.2, 'Farthest plane in 1/m; 0 is infinity.', 0.0, 50.0, fixed=False),
    Entry('count', 8, 'Number of planes, uniform in dioptres from near to far.',
          MIN_PLANES, MAX_PLANES, fixed=False),
    Entry('planes_dioptres', (), 'Planes in 1/m, in their order, instead of near, far and count.',
          0.0, 50.0, fixed=False),
    Entry('hold_dioptres', 1.0, 'Focus of mode hold in 1/m.', 0.0, 50.0, fixed=False),
    Entry('tolerance', 0.02, 'Dioptres between report and command that count as arrived.',
          1e-4, 1.0, fixed=False),
    Entry('settle_frames', 1, 'Frames on target before the next plane.', 1, 100, fixed=False),
    Entry('settle_time', 0.0, 'Seconds on target before the next plane.', 0.0, 10.0, fixed=False),
    Entry('model_time', 0.3, 'Seconds for each plane where no focus is reported.',
          0.0, 10.0, fixed=False),
    Entry('report_timeout', 1.0, 'Seconds without a report after which none is expected.',
          0.05, 60.0, fixed=False),
    Entry('resend_time', 0.5, 'Seconds after which a command that is not obeyed is repeated.',
          0.05, 60.0, fixed=False),
    Entry('plane_timeout', 4.0, 'Seconds after which a plane that is never reached is given up.',
          0.1, 600.0, fixed=False),
)


class FocusSweepNode(Node):
    """Publishes ``focus_command`` and listens to ``focus_state``; never waits.

    :raises ValueError: if a parameter is not allowed.
    """

    def __init__(self) -> None:
        super().__init__('focus_sweep')
        self._values = declare(self, PARAMETERS)
        self._plan = SweepPlan(_settings(self._values))
        warn = self.get_logger().warning
        self._commands = create_publisher(
            self.create_publisher, FocusCommand, 'focus_command', _KEPT, warn
        )
        self._diagnostics = create_publisher(
            self.create_publisher, DiagnosticArray, '/diagnostics', _KEPT, warn
        )
        self._states = OfferedSubscription(
            self, FocusState, 'focus_state', self._on_state, _KEPT
        )
        self.create_service(Trigger, '~/capture', self._on_capture)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(_POLL_PERIOD, self._advance)
        self.create_timer(1.0, self._on_second)
        planes = ', '.join(f'{plane:.3g}' for plane in self._plan.settings.planes)
        self.get_logger().info(
            f'{self._plan.settings.mode} sweep over {planes} dioptres; '
            f'commands on {self._commands.topic_name}, {self._states}'
        )

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_state(self, msg: FocusState) -> None:
        try:
            state = LensState(msg.state)
        except ValueError:
            state = LensState.UNKNOWN
        step = Step(msg.focus_dioptres, msg.sweep_id, msg.plane_index, msg.plane_count)
        self._plan.report(Report(msg.focus_dioptres, state, step), self._now())
        self._advance()

    def _advance(self) -> None:
        now = self._now()
        self._plan.listeners(self._commands.get_subscription_count(), now)
        step = self._plan.poll(now)
        if step is None:
            return
        msg = FocusCommand(
            focus_dioptres=step.focus_dioptres,
            sweep_id=step.sweep_id,
            plane_index=step.plane_index,
            plane_count=step.plane_count,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._commands.publish(msg)

    def _on_capture(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            number = self._plan.request()
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        count = len(self._plan.settings.planes)
        response.success, response.message = True, f'sweep {number} of {count} planes started'
        return response

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        entries = {entry.name: entry for entry in PARAMETERS}
        values = dict(self._values)
        try:
            for change in changes:
                if change.name in entries:
                    values[change.name] = entries[change.name].check(change.value)
            settings = _settings(values)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if settings != self._plan.settings:
            self._plan.configure(settings)
        self._values = values
        return SetParametersResult(successful=True)

    def _on_second(self) -> None:
        self._states.refresh()
        plan = self._plan
        status = DiagnosticStatus(
            name=f'{self.get_fully_qualified_name().lstrip("/")}: sweep',
            hardware_id=self._values['driver'],
            level=DiagnosticStatus.WARN if plan.trouble else DiagnosticStatus.OK,
            message=plan.trouble or plan.settings.mode,
        )
        status.values = [KeyValue(key=k, value=str(v)) for k, v in self._figures().items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _figures(self) -> dict[str, Any]:
        plan, target = self._plan, self._plan.target
        figures: dict[str, Any] = {
            'mode': plan.settings.mode,
            'pattern': plan.settings.pattern,
            'planes': len(plan.settings.planes),
            'commanded dioptres': 'none' if target is None else f'{target.focus_dioptres:.4f}',
            'reported dioptres': f'{plan.reported:.4f}',
            'waiting for': plan.waiting,
            'sweeps': plan.counts.sweeps,
            'sweep rate (Hz)': f'{plan.counts.rate:.3f}',
            'commands': plan.counts.commands,
            'commands repeated': plan.counts.resent,
            'planes given up': plan.counts.given_up,
            'lens faults': plan.counts.faults,
        }
        if target is not None and target.plane_count:
            figures['sweep'] = target.sweep_id
            figures['plane'] = f'{target.plane_index + 1} of {target.plane_count}'
        return figures


def _settings(values: dict[str, Any]) -> SweepSettings:
    planes = values['planes_dioptres'] or uniform_planes(
        values['near_dioptres'], values['far_dioptres'], values['count']
    )
    names = ('mode', 'pattern', 'tolerance', 'settle_frames', 'settle_time', 'model_time',
             'report_timeout', 'resend_time', 'plane_timeout')
    return SweepSettings(
        tuple(planes), hold=values['hold_dioptres'], **{name: values[name] for name in names}
    )
