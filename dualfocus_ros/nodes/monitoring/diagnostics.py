# SPDX-License-Identifier: Apache-2.0
"""Statuses of /diagnostics: level, cause and remedy, and key values of each part of the node."""

from __future__ import annotations

from collections.abc import Iterable
import os
import statistics
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from dualfocus_ros.camera.depth_resolution import RangeCheck, inverse_depth_error
from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.nodes.inference_worker import InferenceWorker
from dualfocus_ros.nodes.monitoring.monitors import ClockMonitor
from dualfocus_ros.nodes.monitoring.node_statistics import CallbackTimer, OutputStatistics
from dualfocus_ros.nodes.publishers import OutputPublishers
from dualfocus_ros.nodes.qos import incompatible_endpoints
from dualfocus_ros.nodes.stack_processor import EstimatorLoader, describe_error
from dualfocus_ros.nodes.stack_source import StackSource
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.stage_counter import StageCounts

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


def input_status(
    source: StackSource | None, counts: StageCounts, times: CallbackTimer, waiting: float | None
) -> DiagnosticStatus:
    """Return the status of the input images: arrival, stages, rejections, callbacks, lens.

    :param source: None while the node is not configured.
    :param waiting: seconds since the activation; None while inactive.
    """
    values = {stage.value: str(count) for stage, count in counts.counts.items()}
    if counts.last is not None:
        values['last rejection'] = f'{counts.last.reason}: {counts.last.text}'
    for rejection in counts.rejections:
        key = f'rejected {rejection.reason}'
        entry = f'{rejection.count} not {rejection.stage.value}: {rejection.text}'
        # The same reason may occur at several stages.
        values[key] = f'{values[key]}; {entry}' if key in values else entry
    age = period = lens = None
    if source is not None:
        age, period, lens = source.arrivals.age, source.arrivals.period, source.lens
    values['image age [s]'] = 'never' if age is None else f'{age:.2f}'
    if period:
        values['image rate [Hz]'] = f'{1.0 / period:.2f}'
    if source is not None and source.progress is not None:
        values['sweep in progress'] = str(source.in_progress).lower()
        values['sweep planes'] = format_plane_count(source.progress)
    if source is not None and source.sweep_seconds is not None:
        values['sweep time [s]'] = f'{source.sweep_seconds:.3f}'
    callbacks = times.summary()
    if callbacks is not None:
        values |= callbacks.values()
    if lens is not None:
        values['lens state'] = lens.state.name.lower()
        values['lens focus [1/m]'] = f'{lens.dioptres:.3f}'
    if source is None or waiting is None:
        return _status('input', OK, 'not active', values)
    return _status('input', *_input_level(source, age, period or 0.0, waiting), values)


def _input_level(
    source: StackSource, age: float | None, period: float, waiting: float
) -> tuple[bytes, str]:
    topics = ', '.join(subscription.topic for subscription in source.images)
    silence = waiting if age is None else age
    if silence > max(_WARN_AGE, _WARN_PERIODS * period):
        level = ERROR if silence > max(_ERROR_AGE, _ERROR_PERIODS * period) else WARN
        if age is None:
            publishers = sum(subscription.publishers for subscription in source.images)
            return level, f'no image on {topics} in {silence:.1f} s; publishers: {publishers}'
        return level, f'no image for {silence:.1f} s; {_format_sweep(source)}'
    if age is None:
        return OK, f'waiting for the first image on {topics}'
    if source.calibration_error is not None:
        return WARN, source.calibration_error
    lens = source.lens
    if lens is not None and lens.state == LensState.FAULT:
        return WARN, f'the lens reports a fault at {lens.dioptres:.2f} dioptres: check its driver'
    if not source.enabled:
        return OK, 'idle: no output has a subscriber'
    return OK, f'images at {1.0 / period:.1f} Hz' if period else 'received the first image'


def _format_sweep(source: StackSource) -> str:
    progress = source.progress
    if progress is None:
        return 'no sweep is in progress'
    if source.in_progress:
        return f'the sweep in progress has {format_plane_count(progress)}'
    return f'the last sweep ended with {format_plane_count(progress)}'


def format_plane_count(progress: SweepProgress) -> str:
    """Return for example ``4 of 8 planes``."""
    if progress.expected:
        return f'{progress.planes} of {progress.expected} planes'
    return f'{progress.planes} planes'


def depth_status(
    statistics_: OutputStatistics,
    source: StackSource | None,
    counts: StageCounts,
    waiting: float | None,
    superseded: int,
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
    if source is None or waiting is None or not source.enabled:
        return _status('depth', OK, 'nothing to do', values)
    since = waiting if age is None else age
    image_age = source.arrivals.age
    if image_age is not None and image_age < _ERROR_AGE < since:
        last = counts.last
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
        text = (
            f'a plane was displaced by {quality.motion_px:.1f} px (alignment.max_motion is '
            f'{quality.max_motion_px:g} px): the camera or the scene moves, or breathing.model '
            'does not match the lens'
        )
        return _status('depth', WARN, text, values)
    return _status('depth', OK, f'depth at {rate:.2f} Hz', values)


def model_status(
    lifecycle: str,
    failure: str | None,
    worker: InferenceWorker[Any] | None,
    loader: EstimatorLoader | None,
) -> DiagnosticStatus:
    """Return the status of the network: model, device, worker, failure.

    :param lifecycle: label of the state of the node.
    :param failure: reason why the node cannot be configured or continue.
    """
    estimator = None if loader is None else loader.estimator
    state = 'not loaded' if worker is None else worker.state.value
    name = sha256 = device = ''
    device_memory = 0
    if estimator is not None:
        name, sha256, device = estimator.model_name, estimator.sha256, estimator.device_name
        device_memory = estimator.device_memory
    crash = '' if worker is None else describe_crash(worker)
    values = {
        'lifecycle': lifecycle,
        'worker': state,
        'model': name,
        'sha256': sha256,
        'device': device,
        'device memory [MB]': f'{device_memory / 1e6:.1f}',
        'host memory [MB]': f'{_resident_memory() / 1e6:.1f}',
        'worker restarts': str(0 if worker is None else worker.restarts),
    }
    if crash:
        values['worker crash cause'] = crash
    if failure is not None:
        return _status('model', ERROR, failure, values)
    if state == 'crashed':
        text = f'the worker thread crashed with {crash}; restarting it'
        return _status('model', ERROR, text, values)
    if loader is not None and loader.fallback is not None:
        return _status('model', WARN, loader.fallback, values)
    if state == 'ready':
        return _status('model', OK, f'{name} on {device}', values)
    return _status('model', OK, f'{lifecycle}, model {state}', values)


def describe_crash(worker: InferenceWorker[Any]) -> str:
    """Return the error of the worker's last crash in one line; empty if it never crashed."""
    return '' if worker.crash_cause is None else describe_error(worker.crash_cause)


def _resident_memory() -> int:
    """Return the resident memory of this process in bytes; 0 if unknown."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf('SC_PAGE_SIZE')


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


def clock_status(clock: ClockMonitor) -> DiagnosticStatus:
    kind = 'simulated time' if clock.simulated else 'system time'
    values = {'clock': kind, 'jumps': str(clock.jumps), 'last jump': clock.last_jump}
    if clock.silent():
        text = 'use_sim_time is set but /clock is silent: is the bag played with --clock?'
        return _status('clock', WARN, text, values)
    return _status('clock', OK, kind, values)


def connection_status(
    node: Node,
    source: StackSource | None,
    outputs: OutputPublishers | None,
    diagnostics: Publisher,
) -> DiagnosticStatus:
    """Return the status of the connections: quality of service, losses and delays.

    :param diagnostics: publisher of the diagnostics.
    """
    inputs = [] if source is None else source.subscriptions
    problems = [s.incompatible for s in inputs if s.incompatible is not None]
    problems += incompatible_endpoints(node, diagnostics)
    values = {f'input {i}': f'{s}, publishers: {s.publishers}' for i, s in enumerate(inputs)}
    if outputs is not None:
        problems += outputs.incompatible_endpoints()
        values |= {f'output {i}': text for i, text in enumerate(outputs.descriptions())}
    transport = None if source is None else source.transport.summary
    if transport is not None:
        values['images lost [%]'] = f'{100.0 * transport.lost:.1f}'
        values['images after their camera_info [ms]'] = f'{1e3 * transport.late:.1f}'
    if problems:
        text = f'incompatible quality of service: {"; ".join(problems)}'
        return _status('connections', WARN, text, values)
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
