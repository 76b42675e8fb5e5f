# SPDX-License-Identifier: Apache-2.0
"""Statuses of /diagnostics: level, cause and remedy, and key values."""

from __future__ import annotations

from collections.abc import Iterable
import statistics

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from dualfocus_ros.camera.depth_resolution import RangeCheck, inverse_depth_error
from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.nodes.monitoring.node_health import (
    ClockHealth,
    ConnectionHealth,
    InputHealth,
    ModelHealth,
)
from dualfocus_ros.nodes.monitoring.output_statistics import OutputStatistics
from dualfocus_ros.sweep.assembler import SweepProgress

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

# Age of the last image that causes a warning or an error: seconds, or periods if longer.
_WARN_AGE, _WARN_PERIODS = 1.0, 5.0
_ERROR_AGE, _ERROR_PERIODS = 5.0, 20.0


def diagnostic_array(
    stamp: Time, name: str, statuses: Iterable[DiagnosticStatus]
) -> DiagnosticArray:
    """Return the message; the statuses are named ``<node>: <part>``."""
    message = DiagnosticArray(header=Header(stamp=stamp))
    for status in statuses:
        status.name = f'{name}: {status.name}'
        status.hardware_id = name
        message.status.append(status)
    return message


def input_status(health: InputHealth) -> DiagnosticStatus:
    """Return the status of the input images: arrival, stages, rejections."""
    level, text = _input_level(health)
    snapshot = health.stage_counter
    values = {stage.value: str(count) for stage, count in snapshot.counts.items()}
    if snapshot.last is not None:
        values['last rejection'] = f'{snapshot.last.reason}: {snapshot.last.text}'
    for rejection in snapshot.rejections:
        key = f'rejected {rejection.reason}'
        entry = f'{rejection.count} not {rejection.stage.value}: {rejection.text}'
        # The same reason may occur at several stages.
        values[key] = f'{values[key]}; {entry}' if key in values else entry
    values['image age [s]'] = 'never' if health.age is None else f'{health.age:.2f}'
    if health.period:
        values['image rate [Hz]'] = f'{1.0 / health.period:.2f}'
    if health.progress is not None:
        values['sweep in progress'] = str(health.in_progress).lower()
        values['sweep planes'] = format_plane_count(health.progress)
    if health.sweep_seconds is not None:
        values['sweep time [s]'] = f'{health.sweep_seconds:.3f}'
    if health.callbacks is not None:
        values |= health.callbacks.values()
    if health.lens is not None:
        values['lens state'] = health.lens.state.name.lower()
        values['lens focus [1/m]'] = f'{health.lens.dioptres:.3f}'
    return _status('input', level, text, values)


def _input_level(health: InputHealth) -> tuple[bytes, str]:
    if not health.active:
        return OK, 'not active'
    period = health.period or 0.0
    warn_age = max(_WARN_AGE, _WARN_PERIODS * period)
    error_age = max(_ERROR_AGE, _ERROR_PERIODS * period)
    silence = health.waiting if health.age is None else health.age
    if silence > warn_age:
        level = ERROR if silence > error_age else WARN
        if health.age is None:
            text = (
                f'no image on {health.topics} in {silence:.1f} s; publishers: {health.publishers}'
            )
        else:
            text = f'no image for {silence:.1f} s; {_format_sweep(health)}'
        return level, text
    if health.age is None:
        return OK, f'waiting for the first image on {health.topics}'
    if health.calibration_error is not None:
        return WARN, health.calibration_error
    if health.lens is not None and health.lens.state == LensState.FAULT:
        return WARN, (
            f'the lens reports a fault at {health.lens.dioptres:.2f} dioptres: check its driver'
        )
    if not health.has_subscribers:
        return OK, 'idle: no output has a subscriber'
    return OK, f'images at {1.0 / period:.1f} Hz' if period else 'received the first image'


def _format_sweep(health: InputHealth) -> str:
    progress = health.progress
    if progress is None:
        return 'no sweep is in progress'
    if health.in_progress:
        return f'the sweep in progress has {format_plane_count(progress)}'
    return f'the last sweep ended with {format_plane_count(progress)}'


def format_plane_count(progress: SweepProgress) -> str:
    """Return for example ``4 of 8 planes``."""
    if progress.expected:
        return f'{progress.planes} of {progress.expected} planes'
    return f'{progress.planes} planes'


def depth_status(
    statistics_: OutputStatistics, input_health: InputHealth, superseded: int
) -> DiagnosticStatus:
    """Return the status of the published depth: rate, latency, quality, last error."""
    rate, age, latencies = statistics_.summary()
    values = {
        'rate [Hz]': f'{rate:.2f}',
        'age [s]': 'never' if age is None else f'{age:.2f}',
        'stacks superseded': str(superseded),
        'stacks short of memory': str(statistics_.out_of_memory_count),
        'depths without a valid pixel': str(statistics_.empty),
        **statistics_.quality.values(),
    }
    if latencies:
        values['latency last [ms]'] = f'{latencies[-1]:.1f}'
        values['latency median [ms]'] = f'{statistics.median(latencies):.1f}'
        values['latency 95 % [ms]'] = f'{sorted(latencies)[int(0.95 * (len(latencies) - 1))]:.1f}'
    for stage, milliseconds in statistics_.stages.items():
        values[f'{stage} [ms]'] = f'{milliseconds:.1f}'
    error = statistics_.error
    if error is not None:
        values['last error'] = error
        return _status('depth', ERROR, error, values)
    if not input_health.active or not input_health.has_subscribers:
        return _status('depth', OK, 'nothing to do', values)
    since = input_health.waiting if age is None else age
    receiving = input_health.age is not None and input_health.age < _ERROR_AGE
    if receiving and since > _ERROR_AGE:
        last = input_health.stage_counter.last
        why = '' if last is None else f'; last rejection: {last.reason}: {last.text}'
        return _status('depth', WARN, f'images arrive but no depth for {since:.1f} s{why}', values)
    if age is None:
        return _status('depth', OK, 'no stack yet', values)
    quality = statistics_.quality
    if quality.valid_share == 0.0:
        return _status('depth', WARN, 'no pixel of the last depth is valid', values)
    if not quality.has_points:
        text = 'no camera_info for the images: depth without points and camera_info'
        return _status('depth', WARN, text, values)
    if quality.moved:
        return _status(
            'depth',
            WARN,
            (
                f'a plane was displaced by {quality.motion_px:.1f} px (alignment.max_motion is '
                f'{quality.max_motion_px:g} px): the camera or the scene moves, or '
                'breathing.model does not match the lens'
            ),
            values,
        )
    return _status('depth', OK, f'depth at {rate:.2f} Hz', values)


def model_status(health: ModelHealth) -> DiagnosticStatus:
    """Return the status of the network: model, device, worker, failure."""
    values = {
        'lifecycle': health.lifecycle,
        'worker': health.worker,
        'model': health.name,
        'sha256': health.sha256,
        'device': health.device,
        'device memory [MB]': f'{health.device_memory / 1e6:.1f}',
        'host memory [MB]': f'{health.host_memory / 1e6:.1f}',
        'worker restarts': str(health.restarts),
    }
    if health.crash_cause:
        values['worker crash cause'] = health.crash_cause
    if health.failure is not None:
        return _status('model', ERROR, health.failure, values)
    if health.worker == 'crashed':
        text = f'the worker thread crashed with {health.crash_cause}; restarting it'
        return _status('model', ERROR, text, values)
    if health.fallback is not None:
        return _status('model', WARN, health.fallback, values)
    if health.worker == 'ready':
        return _status('model', OK, f'{health.name} on {health.device}', values)
    return _status('model', OK, f'{health.lifecycle}, model {health.worker}', values)


def optics_status(check: RangeCheck | None) -> DiagnosticStatus:
    """Return the status of the optics: range limit of the lens and requested range."""
    if check is None:
        text = (
            'no stack yet, or the lens is not known: set lens.kappa, or lens.focal_length, '
            'lens.f_number and lens.pixel_pitch together'
        )
        return _status('optics', OK, text, {})
    values = {
        'blur per dioptre [px]': f'{check.kappa:.3f}',
        'sigma at least [1/m]': f'{inverse_depth_error(check.kappa):.4f}',
        'range limit [m]': f'{check.limit:.2f}',
        'range asked for [m]': f'{check.requested:.2f}',
    }
    return _status('optics', WARN if check.exceeded else OK, str(check), values)


def clock_status(health: ClockHealth) -> DiagnosticStatus:
    """Return the status of the clock."""
    kind = 'simulated time' if health.simulated else 'system time'
    values = {'clock': kind, 'jumps': str(health.jumps), 'last jump': health.last_jump}
    if health.silent:
        text = 'use_sim_time is set but /clock is silent: is the bag played with --clock?'
        return _status('clock', WARN, text, values)
    return _status('clock', OK, kind, values)


def connection_status(health: ConnectionHealth) -> DiagnosticStatus:
    """Return the status of the connections: quality of service, losses and delays."""
    values = {f'input {i}': text for i, text in enumerate(health.inputs)}
    values.update({f'output {i}': text for i, text in enumerate(health.outputs)})
    transport = health.transport
    if transport is not None:
        values['images lost [%]'] = f'{100.0 * transport.lost:.1f}'
        values['images after their camera_info [ms]'] = f'{1e3 * transport.late:.1f}'
    if health.problems:
        text = '; '.join(health.problems)
        return _status('connections', WARN, f'incompatible quality of service: {text}', values)
    if transport is not None and transport.problem is not None:
        return _status('connections', WARN, transport.problem, values)
    return _status('connections', OK, 'all compatible', values)


def _status(name: str, level: bytes, text: str, values: dict[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=text,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
