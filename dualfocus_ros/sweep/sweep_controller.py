# SPDX-License-Identifier: Apache-2.0
"""Leads a lens through the planes of a sweep: what to command, and when to go on.

No clock and no ROS: the caller passes the time in seconds and reports what the camera said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
import math

from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.sweep.time_synchronizer import LensState

MODES = ('continuous', 'once', 'hold')
PATTERNS = ('triangle', 'sawtooth')
_ID_LIMIT = 2**32
# How many times longer than between reports the first one is waited for: processes that are being
# started find each other's topics one after the other.
_FIRST_PATIENCE = 3.0
NO_CAMERA = 'no camera listens to focus_command'


def uniform_planes(near: float, far: float, count: int) -> tuple[float, ...]:
    """Return ``count`` focus positions in dioptres, evenly from near to far.

    :raises ValueError: unless 0 <= far < near and 2 <= count <= 32.
    """
    if not 0.0 <= far < near:
        raise ValueError(f'planes need 0 <= far < near dioptres, got near={near:g}, far={far:g}')
    if not MIN_PLANES <= count <= MAX_PLANES:
        raise ValueError(f'a sweep has {MIN_PLANES} to {MAX_PLANES} planes, got {count}')
    return tuple(near + (far - near) * index / (count - 1) for index in range(count))


@dataclass(frozen=True)
class SweepSettings:
    """How to sweep.

    :param planes: focus positions in dioptres, in the order of the first sweep.
    :param mode: ``continuous``, ``once`` (one sweep per request) or ``hold`` (rest at ``hold``).
    :param pattern: ``triangle`` turns round at the ends, ``sawtooth`` flies back to the start.
    :param hold: position in dioptres of mode ``hold``.
    :param tolerance: dioptres between the reported and the commanded position that still count
        as arrived.
    :param settle_frames: frames on target before going on.
    :param settle_time: seconds on target before going on.
    :param model_time: seconds after a command that the lens is given where nothing is reported.
    :param report_timeout: seconds of silence after which nothing counts as reported; three times
        as long before the first report.
    :param resend_time: seconds after which a command that is not obeyed is sent again.
    :param plane_timeout: seconds after which a plane that is never reached is given up.
    :raises ValueError: for values that no sweep can be made of.
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
                f'neighbouring planes are {closest:.3f} dioptres apart, which is not more than '
                f'the tolerance of {self.tolerance:g}'
            )


@dataclass(frozen=True)
class PlaneTarget:
    """A command: go to this focus, as this plane of this sweep (count 0: of none)."""

    focus_dioptres: float
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0


@dataclass(frozen=True)
class Report:
    """What the camera said about one frame; ``step`` is the command that it claims to obey."""

    focus_dioptres: float
    state: LensState
    step: PlaneTarget


@dataclass
class SweepCounts:
    """What happened so far."""

    commands: int = 0
    resent: int = 0
    sweeps: int = 0
    given_up: int = 0
    faults: int = 0
    finished_at: deque[float] = field(default_factory=lambda: deque(maxlen=8))

    @property
    def rate(self) -> float:
        """Sweeps per second over the last few, 0 while unknown."""
        span = self.finished_at[-1] - self.finished_at[0] if self.finished_at else 0.0
        return (len(self.finished_at) - 1) / span if span > 0.0 else 0.0


class SweepController:
    """The state machine of a sweep.

    Call :meth:`poll` often; it returns a command to send, or None. ``waiting`` says what the
    sweep waits for, ``trouble`` is not empty when that needs attention, and ``disobedience`` says
    so from when the lens has long been reported elsewhere than it was sent until it obeys again.
    """

    def __init__(self, settings: SweepSettings) -> None:
        self.counts = SweepCounts()
        self.waiting = 'start'
        self.trouble = ''
        self.position_error = ''
        self.reported = math.nan
        self._sweep_id = 0
        self._listeners = 0
        self._absence = NO_CAMERA
        self._reports_targets = False
        self._newest_report = -math.inf
        self._patience = _FIRST_PATIENCE
        self._now = -math.inf
        self.configure(settings)

    @property
    def target(self) -> PlaneTarget | None:
        """The command in force, None before the first."""
        return self._step

    @property
    def sweeping(self) -> bool:
        """Whether a sweep is under way."""
        return self._step is not None and self._step.plane_count > 0

    def configure(self, settings: SweepSettings) -> None:
        """Take new settings; a sweep under way ends without its remaining planes."""
        self.settings = settings
        self._step: PlaneTarget | None = None
        self._queue: list[PlaneTarget] = []
        self._forward = True
        self._requested = False
        self._send_now = False
        self._accepted = False
        self._refusal = self.position_error = ''
        self._reset_arrival()
        self._sent = self._first_sent = -math.inf

    def request(self) -> int:
        """Ask for one sweep (mode ``once``); returns the number that it will have.

        :raises ValueError: in another mode, or while one is under way.
        """
        if self.settings.mode != 'once':
            raise ValueError(
                f'capture needs mode once, but the mode is {self.settings.mode}: '
                'set the parameter mode first'
            )
        if self._requested or self.sweeping:
            raise ValueError(f'sweep {self._sweep_id} is still under way')
        self._requested = True
        return (self._sweep_id + 1) % _ID_LIMIT

    def listeners(self, count: int, now: float, absence: str = NO_CAMERA) -> None:
        """Tell how many cameras listen; a new one is sent the command in force.

        :param absence: why none does, if none does.
        """
        self._absence = absence
        if count > self._listeners:
            self._send_now = self._step is not None
            # It has the time of the time-out to send its first report.
            self._newest_report = self._first_sent = now
            self._patience = _FIRST_PATIENCE
            self._reset_arrival()
        if count == 0:
            self._reports_targets = False
        self._listeners = count

    def accepted(self, now: float) -> None:
        """Tell that the lens was given the newest command only now; its time counts from here."""
        self._sent = now
        if not self._accepted:
            self._first_sent, self._accepted = now, True
        self._reset_arrival()

    def refused(self, reason: str) -> None:
        """Tell that the lens will not carry out the newest command."""
        self._refusal = reason

    def report(self, report: Report, now: float) -> None:
        """Take what the camera says about its newest frame."""
        self._watch(now)
        self._newest_report = now
        self._patience = 1.0
        self.reported = report.focus_dioptres
        self._reports_targets |= report.step.plane_count > 0
        if report.state == LensState.FAULT:
            self.counts.faults += 1
        step = self._step
        if step is None:
            return
        late = (
            self._reports_targets
            and step.plane_count > 0
            and (
                (report.step.sweep_id, report.step.plane_index, report.step.plane_count)
                != (step.sweep_id, step.plane_index, step.plane_count)
            )
        )
        off = not abs(report.focus_dioptres - step.focus_dioptres) <= self.settings.tolerance
        if late or off or report.state in (LensState.MOVING, LensState.FAULT):
            self._reset_arrival()
            self._delay_reason = self._why(report, late=late, off=off)
            self._lens_moving = report.state == LensState.MOVING and not late
            self._off_target = off and not late and report.state != LensState.MOVING
            return
        if self._frames == 0:
            self._arrived = now
        self._frames += 1
        self._delay_reason = self.position_error = ''

    def poll(self, now: float) -> PlaneTarget | None:
        """Return a command to send now, or None."""
        self._watch(now)
        if self._send_now and self._listeners:
            self._send_now = False
            self.counts.resent += 1
            return self._send(now)
        # A command that nobody hears would only start the first sweep half-way.
        if self._step is None and not self._listeners:
            self.waiting = self.trouble = self._absence
            return None
        if self._step is None or self._done(now):
            if self.sweeping and not self._queue:
                self.counts.sweeps += 1
                self.counts.finished_at.append(now)
            following = self._next_target()
            if following is None:
                return None
            self._step = following
            self._first_sent, self._accepted = now, False
            self._reset_arrival()
            self.counts.commands += 1
            return self._send(now)
        if self._needs_resend(now):
            self.counts.resent += 1
            return self._send(now)
        return None

    def _next_target(self) -> PlaneTarget | None:
        """Return the next command, None to stay."""
        if self._queue:
            return self._queue.pop(0)
        settings = self.settings
        if settings.mode == 'hold':
            rest = PlaneTarget(settings.hold)
            return None if self._step == rest else rest
        if settings.mode == 'once' and not self._requested:
            if self._step is None:
                return PlaneTarget(settings.planes[0])
            # The last plane again, but no longer as part of the sweep.
            rest = PlaneTarget(self._step.focus_dioptres)
            return None if self._step == rest else rest
        self._requested = False
        self._sweep_id = (self._sweep_id + 1) % _ID_LIMIT
        count = len(settings.planes)
        order = range(count) if self._forward else range(count - 1, -1, -1)
        self._queue = [PlaneTarget(settings.planes[i], self._sweep_id, i, count) for i in order]
        if settings.pattern == 'triangle':
            self._forward = not self._forward
        return self._queue.pop(0)

    def _done(self, now: float) -> bool:
        """Return whether the command in force has been carried out, or is given up."""
        settings, step = self.settings, self._step
        assert step is not None
        self.trouble = ''
        if step.plane_count == 0:
            # At rest: only a request or a new configuration leads on.
            self.waiting = 'a capture request' if settings.mode == 'once' else 'nothing: holding'
            return self._requested
        if not self._listeners:
            self.waiting = self.trouble = self._absence
            return False
        if self._refusal:
            self.waiting = self.trouble = f'refused: {self._refusal}'
            # Not at once: a driver that refuses everything is not to be asked without end.
            if now - self._first_sent < settings.resend_time:
                return False
            self.counts.given_up += 1
            return True
        if self._silent(now):
            self.waiting = 'the settling model: nothing is reported'
            if not math.isnan(self.reported):
                self.trouble = f'no focus report for more than {settings.report_timeout:g} s'
            return now - self._first_sent >= settings.model_time
        if self._frames >= settings.settle_frames and now - self._arrived >= settings.settle_time:
            return True
        self.waiting = self._delay_reason or (
            f'settling: {self._frames} of {settings.settle_frames} frames'
        )
        late = now - self._first_sent
        if self._off_target and late >= settings.resend_time:
            self.waiting = self.position_error = f'the lens does not obey: {self._delay_reason}'
        if late >= settings.plane_timeout:
            self.counts.given_up += 1
            self.trouble = f'gave up {step.focus_dioptres:.3f} dioptres: {self.waiting}'
            return True
        if late >= settings.resend_time:
            self.trouble = self.waiting
        return False

    def _needs_resend(self, now: float) -> bool:
        """Return whether the command in force was not obeyed and should be repeated."""
        if now - self._sent < self.settings.resend_time or not self._listeners:
            return False
        # A lens that is under way has heard.
        return not (self._silent(now) or self._refusal or self._lens_moving) and self._frames == 0

    def _silent(self, now: float) -> bool:
        """Return whether no reports are to be expected any more."""
        return now - self._newest_report > self._patience * self.settings.report_timeout

    def _send(self, now: float) -> PlaneTarget:
        self._sent = now
        self._refusal = ''
        assert self._step is not None
        return self._step

    def _reset_arrival(self) -> None:
        self._frames = 0
        self._arrived = math.inf
        self._delay_reason = 'a report on the command'
        self._lens_moving = self._off_target = False

    def _why(self, report: Report, *, late: bool, off: bool) -> str:
        step = self._step
        assert step is not None
        if report.state == LensState.FAULT:
            return 'the camera reports a lens fault'
        if report.state == LensState.MOVING:
            return 'the lens is moving'
        if late:
            return 'the camera has not taken the command yet'
        if math.isnan(report.focus_dioptres):
            return 'where the lens is is not known'
        asked = step.focus_dioptres
        return f'reported {report.focus_dioptres:.3f}, commanded {asked:.3f} dioptres'

    def _watch(self, now: float) -> None:
        """Start all waiting anew when the clock jumps back."""
        if now < self._now:
            self._sent = self._first_sent = now
            self._newest_report = min(self._newest_report, now)
            self._arrived = min(self._arrived, now) if self._frames else math.inf
            self.counts.finished_at.clear()
        self._now = now
