# SPDX-License-Identifier: Apache-2.0
"""State machine of a focus sweep: which target to command, and when; its settings.

No clock and no ROS: the caller passes the time in seconds and the lens readings.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES

MODES = ('continuous', 'once', 'hold')
PATTERNS = ('triangle', 'sawtooth')
NO_CAMERA = 'no camera listens to focus_command'
_ID_LIMIT = 2**32
# Factor on the reading timeout before the first reading: while processes start, they discover each
# other's topics one after the other.
_FIRST_READING_FACTOR = 3.0


def uniform_planes(near: float, far: float, count: int) -> tuple[float, ...]:
    """Return ``count`` focus positions in dioptres, evenly spaced from near to far.

    :raises ValueError: unless 0 <= far < near and 2 <= count <= 32.
    """
    if not 0.0 <= far < near:
        raise ValueError(f'planes need 0 <= far < near dioptres, got near={near:g}, far={far:g}')
    if not MIN_PLANES <= count <= MAX_PLANES:
        raise ValueError(f'a sweep has {MIN_PLANES} to {MAX_PLANES} planes, got {count}')
    return tuple(near + (far - near) * index / (count - 1) for index in range(count))


@dataclass(frozen=True)
class SweepSettings:
    """Settings of a focus sweep.

    :param planes: focus positions in dioptres, in the order of the first sweep.
    :param mode: ``continuous``; ``once``: one sweep per request; ``hold``: rest at ``hold``.
    :param pattern: ``triangle`` reverses at the ends, ``sawtooth`` returns to the first plane.
    :param hold: position in dioptres of mode ``hold``.
    :param tolerance: largest distance in dioptres between reading and target on target.
    :param settle_frames: frames on target before the next plane.
    :param settle_time: seconds on target before the next plane.
    :param model_time: seconds per plane without readings.
    :param report_timeout: seconds without a reading after which none is expected; three times
        as long before the first reading.
    :param resend_time: seconds after which a command is repeated while the lens is off target.
    :param plane_timeout: seconds after which a plane is skipped.
    :raises ValueError: for values that do not make a sweep.
    """

    planes: tuple[float, ...]
    mode: str = 'continuous'
    pattern: str = 'triangle'
    hold: float = 1.0
    tolerance: float = 0.02
    settle_frames: int = 1
    settle_time: float = 0.0
    model_time: float = 0.3
    report_timeout: float = 1.0
    resend_time: float = 0.5
    plane_timeout: float = 4.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'mode must be one of {", ".join(MODES)}, got {self.mode!r}')
        if self.pattern not in PATTERNS:
            raise ValueError(f'pattern must be one of {", ".join(PATTERNS)}, got {self.pattern!r}')
        if not MIN_PLANES <= len(self.planes) <= MAX_PLANES:
            raise ValueError(
                f'a sweep has {MIN_PLANES} to {MAX_PLANES} planes, got {len(self.planes)}'
            )
        if not all(math.isfinite(plane) and plane >= 0.0 for plane in self.planes):
            raise ValueError(f'planes must be dioptres from 0 on, got {list(self.planes)}')
        closest = min(abs(a - b) for a, b in zip(self.planes, self.planes[1:], strict=False))
        if closest <= self.tolerance:
            raise ValueError(
                f'neighbouring planes are {closest:.3f} dioptres apart, which must exceed the '
                f'tolerance of {self.tolerance:g}: use fewer planes or a smaller tolerance'
            )


@dataclass
class SweepCounts:
    """Counts since the start."""

    commands: int = 0
    resent: int = 0
    sweeps: int = 0
    skipped_planes: int = 0
    faults: int = 0
    finished_at: deque[float] = field(default_factory=lambda: deque(maxlen=8))

    @property
    def rate(self) -> float:
        """Sweeps per second over the last few sweeps; 0: unknown."""
        span = self.finished_at[-1] - self.finished_at[0] if self.finished_at else 0.0
        return (len(self.finished_at) - 1) / span if span > 0.0 else 0.0


class SweepController:
    """State machine of a focus sweep.

    Call :meth:`update` often; it returns a target to command, or None.

    :ivar target: newest command; None before the first.
    :ivar waiting_for: event that the sweep waits for.
    :ivar problem: warning; empty: none.
    :ivar position_error: not empty from when the lens has long been off target at rest until it is
        on target again.
    :ivar measured: focus of the newest reading in dioptres; NaN: unknown.
    """

    def __init__(self, settings: SweepSettings) -> None:
        self.counts = SweepCounts()
        self.waiting_for = 'start'
        self.problem = ''
        self.position_error = ''
        self.measured = math.nan
        self._sweep_id = 0
        self._listeners = 0
        self._absence = NO_CAMERA
        # Whether readings repeat the plane of their target.
        self._has_plane_ids = False
        self._newest_reading = -math.inf
        self._timeout_factor = _FIRST_READING_FACTOR
        self._now = -math.inf
        self.configure(settings)

    @property
    def sweeping(self) -> bool:
        """Whether a sweep is in progress."""
        return self.target is not None and self.target.plane_count > 0

    def configure(self, settings: SweepSettings) -> None:
        """Apply new settings; the sweep in progress ends."""
        self.settings = settings
        self.target: PlaneTarget | None = None
        self._queue: list[PlaneTarget] = []
        self._forward = True
        self._requested = False
        self._resend = False
        self._accepted = False
        self._refusal = self.position_error = ''
        self._reset_arrival()
        self._sent = self._first_sent = -math.inf

    def request_sweep(self) -> int:
        """Start one sweep (mode ``once``); return its number.

        :raises ValueError: in another mode, or during a sweep.
        """
        if self.settings.mode != 'once':
            raise ValueError(
                f'capture needs mode once, but the mode is {self.settings.mode}: '
                'set the parameter mode first'
            )
        if self._requested or self.sweeping:
            raise ValueError(f'sweep {self._sweep_id} is still in progress: call again after it')
        self._requested = True
        return (self._sweep_id + 1) % _ID_LIMIT

    def set_listeners(self, count: int, now: float, absence: str = NO_CAMERA) -> None:
        """Set the number of cameras that receive commands; a new one gets the newest command.

        :param absence: the problem while there are none.
        """
        self._absence = absence
        if count > self._listeners:
            self._resend = self.target is not None
            # The camera has the whole timeout for its first reading.
            self._newest_reading = self._first_sent = now
            self._timeout_factor = _FIRST_READING_FACTOR
            self._reset_arrival()
        if count == 0:
            self._has_plane_ids = False
        self._listeners = count

    def command_accepted(self, now: float) -> None:
        """Restart the timing: the driver accepted the newest command now."""
        self._sent = now
        if not self._accepted:
            self._first_sent, self._accepted = now, True
        self._reset_arrival()

    def command_refused(self, reason: str) -> None:
        """Skip the newest command, which the driver refused."""
        self._refusal = reason

    def add_reading(self, reading: LensReading, now: float) -> None:
        """Add the lens reading of the newest frame."""
        self._handle_clock_jump(now)
        self._newest_reading = now
        self._timeout_factor = 1.0
        self.measured = reading.dioptres
        self._has_plane_ids |= reading.plane_count > 0
        if reading.state == LensState.FAULT:
            self.counts.faults += 1
        target = self.target
        if target is None:
            return
        outdated = (
            self._has_plane_ids and target.plane_count > 0 and reading.plane_id != target.plane_id
        )
        off = not abs(reading.dioptres - target.dioptres) <= self.settings.tolerance
        if outdated or off or reading.state in (LensState.MOVING, LensState.FAULT):
            self._reset_arrival()
            self._delay_reason = _describe_delay(reading, target, outdated=outdated)
            self._lens_moving = reading.moving and not outdated
            self._off_target = off and not outdated and not reading.moving
            return
        if self._frames == 0:
            self._arrived = now
        self._frames += 1
        self._delay_reason = self.position_error = ''

    def update(self, now: float) -> PlaneTarget | None:
        """Return a target to command now, or None."""
        self._handle_clock_jump(now)
        if self._resend and self._listeners:
            self._resend = False
            self.counts.resent += 1
            return self._send(now)
        # A first command without a listener would lose the first planes of the sweep.
        if self.target is None and not self._listeners:
            self.waiting_for = self.problem = self._absence
            return None
        if self.target is None or self._is_done(now):
            if self.sweeping and not self._queue:
                self.counts.sweeps += 1
                self.counts.finished_at.append(now)
            target = self._next_target()
            if target is None:
                return None
            self.target = target
            self._first_sent, self._accepted = now, False
            self._reset_arrival()
            self.counts.commands += 1
            return self._send(now)
        if self._needs_resend(now):
            self.counts.resent += 1
            return self._send(now)
        return None

    def _next_target(self) -> PlaneTarget | None:
        """Return the next target; None: stay."""
        if self._queue:
            return self._queue.pop(0)
        settings = self.settings
        if settings.mode == 'hold':
            rest = PlaneTarget(settings.hold)
            return None if self.target == rest else rest
        if settings.mode == 'once' and not self._requested:
            if self.target is None:
                return PlaneTarget(settings.planes[0])
            # The last plane again, outside of the sweep.
            rest = PlaneTarget(self.target.dioptres)
            return None if self.target == rest else rest
        self._requested = False
        self._sweep_id = (self._sweep_id + 1) % _ID_LIMIT
        count = len(settings.planes)
        order = range(count) if self._forward else range(count - 1, -1, -1)
        self._queue = [PlaneTarget(settings.planes[i], self._sweep_id, i, count) for i in order]
        if settings.pattern == 'triangle':
            self._forward = not self._forward
        return self._queue.pop(0)

    def _is_done(self, now: float) -> bool:
        """Return whether the plane is finished or skipped; update the status texts."""
        settings, target = self.settings, self.target
        assert target is not None
        self.problem = ''
        if target.plane_count == 0:
            # At rest until a request or a new configuration.
            once = settings.mode == 'once'
            self.waiting_for = 'a capture request' if once else 'nothing: holding'
            return self._requested
        if not self._listeners:
            self.waiting_for = self.problem = self._absence
            return False
        elapsed = now - self._first_sent
        if self._refusal:
            self.waiting_for = self.problem = f'refused: {self._refusal}'
            # Not at once: a driver that refuses everything would be asked without end.
            skip = elapsed >= settings.resend_time
            self.counts.skipped_planes += skip
            return skip
        if self._is_silent(now):
            self.waiting_for = 'the settling model: nothing is reported'
            if not math.isnan(self.measured):
                self.problem = f'no focus report for more than {settings.report_timeout:g} s'
            return elapsed >= settings.model_time
        if self._frames >= settings.settle_frames and now - self._arrived >= settings.settle_time:
            return True
        self.waiting_for = self._delay_reason or (
            f'settling: {self._frames} of {settings.settle_frames} frames'
        )
        if self._off_target and elapsed >= settings.resend_time:
            self.waiting_for = self.position_error = f'lens off target: {self._delay_reason}'
        if elapsed >= settings.plane_timeout:
            self.counts.skipped_planes += 1
            self.problem = f'skipped {target.dioptres:.3f} dioptres: {self.waiting_for}'
            return True
        if elapsed >= settings.resend_time:
            self.problem = self.waiting_for
        return False

    def _needs_resend(self, now: float) -> bool:
        """Return whether to repeat the newest command."""
        if now - self._sent < self.settings.resend_time or not self._listeners:
            return False
        # A moving lens has received the command, and so has one on target.
        return not (self._is_silent(now) or self._refusal or self._lens_moving or self._frames)

    def _is_silent(self, now: float) -> bool:
        """Return whether readings have ceased."""
        silence = now - self._newest_reading
        return silence > self._timeout_factor * self.settings.report_timeout

    def _send(self, now: float) -> PlaneTarget:
        assert self.target is not None
        self._sent, self._refusal = now, ''
        return self.target

    def _reset_arrival(self) -> None:
        self._frames = 0
        self._arrived = math.inf
        self._delay_reason = 'a report on the command'
        self._lens_moving = self._off_target = False

    def _handle_clock_jump(self, now: float) -> None:
        """Restart all timeouts when the clock jumps back."""
        if now < self._now:
            self._sent = self._first_sent = now
            self._newest_reading = min(self._newest_reading, now)
            self._arrived = min(self._arrived, now) if self._frames else math.inf
            self.counts.finished_at.clear()
        self._now = now


def _describe_delay(reading: LensReading, target: PlaneTarget, *, outdated: bool) -> str:
    """Return why the reading is not on target."""
    if reading.state == LensState.FAULT:
        return 'the camera reports a lens fault'
    if reading.moving:
        return 'the lens is moving'
    if outdated:
        return 'the camera has not taken the command yet'
    if math.isnan(reading.dioptres):
        return 'the lens position is unknown'
    return f'reported {reading.dioptres:.3f}, commanded {target.dioptres:.3f} dioptres'
