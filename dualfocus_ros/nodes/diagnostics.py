# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says: levels that an operator can act on, and text that says what to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
import math
import statistics
import threading
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from dualfocus_ros.camera.depth_resolution import RangeCheck, inverse_depth_error
from dualfocus_ros.camera.lens_state import LensReading, LensState
from dualfocus_ros.nodes.callback_times import CallbackSummary
from dualfocus_ros.nodes.transport_monitor import TransportHealth
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.stage_counter import StageCounts

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

# An image overdue by this much is worth a warning, and then an error (seconds, or periods).
_WARN_AGE, _WARN_PERIODS = 1.0, 5.0
_ERROR_AGE, _ERROR_PERIODS = 5.0, 20.0
_RATE_WINDOW = 10.0


@dataclass(frozen=True)
class StackQuality:
    """What is to be said of a stack and its depth.

    :param valid_share: share of the pixels with a depth.
    :param has_points: whether there were intrinsics.
    :param motion_px: the largest displacement of a plane, NaN where nothing could be told, None
        where nobody looked.
    :param max_motion_px: above this the stack is flagged.
    :param unaligned: planes without the texture to tell.
    :param brightness_ratio: of the brightest plane to the darkest.
    :param clipped: whether planes are clipped to white in more than a few pixels.
    """

    valid_share: float = 1.0
    has_points: bool = True
    motion_px: float | None = None
    max_motion_px: float = math.inf
    unaligned: tuple[int, ...] = ()
    brightness_ratio: float = 1.0
    clipped: bool = False

    @property
    def moved(self) -> bool:
        """Whether planes were displaced by more than is allowed."""
        return self.motion_px is not None and self.motion_px > self.max_motion_px

    def values(self) -> dict[str, str]:
        """Return the key values of the diagnostics."""
        values = {'valid share': f'{self.valid_share:.3f}'}
        if self.motion_px is not None:
            values['motion [px]'] = f'{self.motion_px:.2f}'
            unaligned = ', '.join(str(plane) for plane in self.unaligned)
            values['planes without texture to align'] = unaligned or 'none'
        values['brightness of planes, largest ratio'] = f'{self.brightness_ratio:.3f}'
        values['clipped to white'] = str(self.clipped).lower()
        return values


class OutputStatistics:
    """Rate, age and latency of the depth that was published. Used by two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=1000)
        self._latencies: deque[float] = deque(maxlen=100)
        self.stages: dict[str, float] = {}
        self.error: str | None = None
        # Stacks that went through only at the second attempt, or not at all, for want of memory.
        self.out_of_memory_count = 0
        self.quality = StackQuality()
        # Depths without a single valid pixel.
        self.empty = 0

    def note(self, latency_ms: float, stages: dict[str, float], quality: StackQuality) -> None:
        """Note a depth that was published; it ends an error."""
        with self._lock:
            self._times.append(time.monotonic())
            self._latencies.append(latency_ms)
            self.stages = dict(stages)
            self.quality = quality
            self.empty += quality.valid_share == 0.0
            self.error = None

    def fail(self, text: str) -> None:
        """Note that a stack could not be processed."""
        with self._lock:
            self.error = text

    def summary(self) -> tuple[float, float | None, list[float]]:
        """Return rate in Hz, seconds since the last depth (None before the first), latencies."""
        with self._lock:
            now = time.monotonic()
            recent = [t for t in self._times if now - t <= _RATE_WINDOW]
            rate = 0.0
            if len(recent) > 1:
                rate = (len(recent) - 1) / (recent[-1] - recent[0])
            age = now - self._times[-1] if self._times else None
            return rate, age, list(self._latencies)


@dataclass(frozen=True)
class InputHealth:
    """What is known about the images that come in.

    :param topics: the image topics, for the text.
    :param publishers: how many publishers they have.
    :param age: seconds since the last image; None before the first.
    :param waiting: seconds since the node was activated.
    :param period: mean time between images, None when not known.
    :param lens: the newest report of the lens, None before the first.
    :param sweep_seconds: time from the first to the last plane of the last stack.
    :param callbacks: how long callbacks kept the executor's thread; None before the first.
    """

    stage_counter: StageCounts
    topics: str
    publishers: int
    age: float | None
    waiting: float
    period: float | None
    progress: SweepProgress | None
    in_progress: bool
    has_subscribers: bool
    active: bool
    calibration_error: str | None = None
    lens: LensReading | None = None
    sweep_seconds: float | None = None
    callbacks: CallbackSummary | None = None


@dataclass(frozen=True)
class ModelHealth:
    """What is known about the network.

    :param failure: why the node could not be configured, or does not go on.
    :param fallback: why it runs on the CPU although it was to run on a GPU.
    :param restarts: how often the worker thread has died and was started anew.
    :param cause: why it died last.
    """

    lifecycle: str
    worker: str
    name: str = ''
    sha256: str = ''
    device: str = ''
    device_memory: int = 0
    host_memory: int = 0
    failure: str | None = None
    fallback: str | None = None
    restarts: int = 0
    cause: str = ''


@dataclass
class ClockHealth:
    """What is known about time."""

    simulated: bool
    silent: bool
    jumps: int = 0
    last_jump: str = ''


@dataclass(frozen=True)
class ConnectionHealth:
    """Topics, quality of service and transport.

    :param problems: incompatible qualities of service, in words.
    :param transport: how images come through; None where that cannot be told.
    """

    inputs: list[str]
    outputs: list[str]
    problems: list[str] = field(default_factory=list)
    transport: TransportHealth | None = None


def diagnostic_array(
    stamp: Time, name: str, statuses: Iterable[DiagnosticStatus]
) -> DiagnosticArray:
    """Return the message; every status is named ``<node>: <part>``."""
    message = DiagnosticArray(header=Header(stamp=stamp))
    for status in statuses:
        status.name = f'{name}: {status.name}'
        status.hardware_id = name
        message.status.append(status)
    return message


def input_status(health: InputHealth) -> DiagnosticStatus:
    """Say whether images come, how far they get, and why not further."""
    level, text = _input_level(health)
    snapshot = health.stage_counter
    values = {stage.value: str(count) for stage, count in snapshot.counts.items()}
    if snapshot.last is not None:
        values['last rejection'] = f'{snapshot.last.reason}: {snapshot.last.text}'
    for rejection in snapshot.rejections:
        key = f'rejected {rejection.reason}'
        said = f'{rejection.count} not {rejection.stage.value}: {rejection.text}'
        # What has a reason in common may have been on its way to different stages.
        values[key] = f'{values[key]}; {said}' if key in values else said
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
            f'the lens reports a fault at {health.lens.dioptres:.2f} dioptres: look at its driver'
        )
    if not health.has_subscribers:
        return OK, 'idle: nobody subscribes to an output'
    return OK, f'images at {1.0 / period:.1f} Hz' if period else 'the first image has come'


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
    """Say how much depth comes out, how late, and what went wrong last."""
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
    images_come = input_health.age is not None and input_health.age < _ERROR_AGE
    if images_come and since > _ERROR_AGE:
        last = input_health.stage_counter.last
        why = '' if last is None else f'; last rejection: {last.reason}: {last.text}'
        return _status('depth', WARN, f'images come but no depth for {since:.1f} s{why}', values)
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
                f'{quality.max_motion_px:g} px): the camera or the scene moves, or the lens breathes '
                'and breathing.model does not say so'
            ),
            values,
        )
    return _status('depth', OK, f'depth at {rate:.2f} Hz', values)


def model_status(health: ModelHealth) -> DiagnosticStatus:
    """Say which network runs where, or why it does not."""
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
    if health.cause:
        values['worker died of'] = health.cause
    if health.failure is not None:
        return _status('model', ERROR, health.failure, values)
    if health.worker == 'dead':
        text = f'the worker thread has died of {health.cause}; it is started anew'
        return _status('model', ERROR, text, values)
    if health.fallback is not None:
        return _status('model', WARN, health.fallback, values)
    if health.worker == 'ready':
        return _status('model', OK, f'{health.name} on {health.device}', values)
    return _status('model', OK, f'{health.lifecycle}, model {health.worker}', values)


def optics_status(check: RangeCheck | None) -> DiagnosticStatus:
    """Say how far the lens can measure, and whether more is asked of it."""
    if check is None:
        text = (
            'no stack has come, or the lens is not known: lens.kappa, or lens.focal_length, '
            'lens.f_number and lens.pixel_pitch together'
        )
        return _status('optics', OK, text, {})
    values = {
        'blur per dioptre [px]': f'{check.kappa:.3f}',
        'sigma at least [1/m]': f'{inverse_depth_error(check.kappa):.4f}',
        'range limit [m]': f'{check.limit:.2f}',
        'range asked for [m]': f'{check.asked:.2f}',
    }
    return _status('optics', WARN if check.beyond else OK, str(check), values)


def clock_status(health: ClockHealth) -> DiagnosticStatus:
    """Say which clock is used and whether it runs."""
    kind = 'simulated time' if health.simulated else 'system time'
    values = {'clock': kind, 'jumps': str(health.jumps), 'last jump': health.last_jump}
    if health.silent:
        text = 'use_sim_time is set but /clock is silent: is the bag played with --clock?'
        return _status('clock', WARN, text, values)
    return _status('clock', OK, kind, values)


def connection_status(health: ConnectionHealth) -> DiagnosticStatus:
    """Say which topics are connected how, and whether what is large comes through."""
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


def resident_memory() -> int:
    """Return the bytes of memory that this process occupies; 0 where that is not known."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()
