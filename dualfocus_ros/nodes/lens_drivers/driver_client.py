# SPDX-License-Identifier: Apache-2.0
"""State machine that drives a lens through the ROS parameters of a camera driver.

No clock and no ROS: the caller passes a steady time in seconds, makes the calls that the client
returns and passes the answers. The exchange is a generator that yields where it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
import enum
import math
from typing import Any

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile, Lock, Value
from dualfocus_ros.nodes.lens_drivers.parameter_calls import ParameterCall, ParameterService

# A driver may store numbers in single precision.
_SINGLE_PRECISION = 1e-5
# Times that a lost lock is set again before the client stops doing so.
_MAX_RELOCKS = 3
# Seconds without a warning after which it is logged again, and number of warnings remembered.
_QUIET = 60.0
_MAX_WARNINGS = 50


class DriverState(enum.Enum):
    """Driver connection state."""

    ABSENT = 'absent'
    SETTING_UP = 'setting up'
    READY = 'ready'
    UNRESPONSIVE = 'unresponsive'
    UNSUPPORTED = 'unsupported'


@dataclass
class DriverClientCounts:
    """Counts since the start."""

    calls: int = 0
    timeouts: int = 0
    set_ups: int = 0
    positions: int = 0
    refused: int = 0


@dataclass(frozen=True)
class DriverClientSettings:
    """Timing and scope of the client.

    :param timeout: seconds until a call counts as unanswered; also the pause between attempts.
    :param check_period: seconds between checks of the driver's parameters.
    :param lock: whether to lock exposure, gain and white balance during sweeps.
    """

    timeout: float = 1.0
    check_period: float = 1.0
    lock: bool = True


class _DriverError(Exception):
    """Error that ends the exchange; a new one starts after a pause."""

    def __init__(self, state: DriverState, text: str) -> None:
        super().__init__(text)
        self.state = state


# Yields a call to make, or None to wait, and receives the answer.
_Exchange = Generator['ParameterCall | None', Any, Any]


class LensDriverClient:
    """Client that prepares a driver for sweeps and moves its lens.

    :param node_name: name of the driver's node, for messages.
    :param on_done: called with each target and the reason of its refusal, empty on success; must
        not call the client.
    :param logger: its ``info`` and ``warning`` receive texts, a repeated warning once.
    :ivar problem: reason why the lens cannot be moved; empty: none.
    :ivar metadata: metadata of the newest frame, if the driver publishes them.
    :ivar locked: names of the locked controls.
    :ivar missing_switches: names of the controls that the driver cannot switch.
    """

    def __init__(
        self,
        profile: DriverProfile,
        node_name: str,
        settings: DriverClientSettings,
        on_done: Callable[[PlaneTarget, str], None],
        logger: Any,
    ) -> None:
        self.profile = profile
        self.node_name = node_name
        self.settings = settings
        self.counts = DriverClientCounts()
        self.state = DriverState.ABSENT
        self.problem = f'node {node_name} not found'
        self.last_error = ''
        self.missing_switches: tuple[str, ...] = ()
        self.locked: tuple[str, ...] = ()
        self.metadata: Mapping[str, str] = {}
        self._on_done = on_done
        self._logger = logger
        self._warned_at: dict[str, float] = {}
        self._target: PlaneTarget | None = None
        self._exchange: _Exchange | None = None
        self._call: ParameterCall | None = None
        self._call_at = self._retry_at = self._set_at = -math.inf
        self._set_names: frozenset[str] = frozenset()
        self._now = 0.0
        self._offered: frozenset[str] = frozenset()
        self._autofocus_off: dict[str, Value] = {}
        self._locks: tuple[Lock, ...] = ()
        self._position: dict[str, Value] = {}
        # Values of the driver before the first set-up, and values set since.
        self._originals: dict[str, Value] = {}
        self._written: dict[str, Value] = {}
        self._locks_set = False
        self._relocks = 0
        self._announce_ready = True

    @property
    def ready(self) -> bool:
        """Whether the lens can be moved."""
        return self.state == DriverState.READY

    @property
    def busy(self) -> bool:
        """Whether a target has not been set yet."""
        return self._target is not None

    def move_to(self, target: PlaneTarget) -> None:
        """Move the lens; replaces a target not set yet.

        Exposure and white balance are locked for targets of a sweep.
        """
        self._target = target

    def update(self, now: float, present: bool) -> ParameterCall | None:
        """Return a call to make now, or None; call this often.

        :param present: whether the driver's services are available.
        """
        self._now = now
        if not present:
            if self.state != DriverState.ABSENT:
                self._end(DriverState.ABSENT, f'{self.node_name} is gone')
            return None
        if self._call is not None:
            if now - self._call_at >= self.settings.timeout:
                self.counts.timeouts += 1
                self._end(
                    DriverState.UNRESPONSIVE,
                    f'{self.node_name} has not answered {self._call.service.value} for '
                    f'{self.settings.timeout:g} s',
                )
            return None
        if self._exchange is None:
            if now < self._retry_at:
                return None
            self._exchange = self._run()
        return self._advance(self._exchange)

    def handle_answer(self, call: ParameterCall, answer: Any, now: float) -> ParameterCall | None:
        """Handle the answer to a call; return the next call. Late answers are ignored."""
        if call is not self._call or self._exchange is None:
            return None
        self._now = now
        self._call = None
        return self._advance(self._exchange, answer)

    def restore_values(self) -> dict[str, Value]:
        """Return the changed parameters with the values that they had before the first set-up."""
        if self.state != DriverState.READY:
            return {}
        return {
            name: value
            for name, value in self._originals.items()
            if name in self._written and not _same(value, self._written[name])
        }

    def _advance(self, exchange: _Exchange, answer: Any = None) -> ParameterCall | None:
        try:
            call = exchange.send(answer)
        except _DriverError as error:
            self._end(error.state, str(error))
            return None
        if call is not None:
            self._call, self._call_at = call, self._now
            self.counts.calls += 1
        return call

    def _end(self, state: DriverState, text: str) -> None:
        """End the exchange and drop its target."""
        self.state = state
        self.problem = self.last_error = text
        self._exchange = self._call = self._target = None
        self._position = {}
        self.locked, self._locks_set = (), False
        at_once = state in (DriverState.ABSENT, DriverState.SETTING_UP)
        self._retry_at = -math.inf if at_once else self._now + self.settings.timeout
        self._warn(text)

    def _warn(self, text: str) -> None:
        """Log a warning unless it recurred within a minute."""
        last = self._warned_at.pop(text, -math.inf)
        self._warned_at[text] = self._now
        if len(self._warned_at) > _MAX_WARNINGS:
            del self._warned_at[next(iter(self._warned_at))]
        if self._now - last > _QUIET:
            self._logger.warning(text)
            self._announce_ready = True

    def _run(self) -> _Exchange:
        yield from self._set_up()
        next_check = self._now + self.settings.check_period
        while True:
            if self._target is not None:
                yield from self._set_position(self._target)
            elif self._now >= next_check:
                yield from self._check_parameters()
                next_check = self._now + self.settings.check_period
            else:
                yield None

    def _set_up(self) -> _Exchange:
        """Switch autofocus off and verify it."""
        profile = self.profile
        if self.state == DriverState.ABSENT:
            self.state = DriverState.SETTING_UP
            self.problem = f'{self.node_name} is being set up'
        self._offered = frozenset((yield ParameterCall(ParameterService.LIST)))
        if profile.position_parameter not in self._offered:
            raise _DriverError(
                DriverState.UNSUPPORTED,
                f'{self.node_name} has no parameter {profile.position_parameter}: is it a node of '
                f'the driver {profile.name}, and can its camera move the lens?',
            )
        self._autofocus_off = profile.autofocus_off_values(self._offered)
        self._locks = profile.locks(self._offered, self.metadata)
        self._report_missing_switches()
        yield from self._save_originals()
        if self._autofocus_off:
            reason = yield from self._set(self._autofocus_off)
            if reason:
                raise _DriverError(
                    DriverState.UNSUPPORTED,
                    f'{self.node_name} refuses to switch autofocus off: {reason}',
                )
            found = yield from self._get(tuple(self._autofocus_off))
            self._require_autofocus_off(
                found, DriverState.UNSUPPORTED, 'autofocus does not stay off'
            )
        self.counts.set_ups += 1
        self.state, self.problem = DriverState.READY, ''
        if self._announce_ready:
            self._announce_ready = False
            self._logger.info(
                f'{self.node_name} is ready: {profile.position_parameter} moves the lens'
                + (', autofocus is off' if self._autofocus_off else '')
            )

    def _report_missing_switches(self) -> None:
        missing = [] if self._autofocus_off else ['autofocus']
        if self.settings.lock:
            missing += [lock.name for lock in self._locks if not lock.held]
        if tuple(missing) != self.missing_switches:
            self.missing_switches = tuple(missing)
            if missing:
                self._logger.info(f'{self.node_name} has no switch for {", ".join(missing)}')

    def _save_originals(self) -> _Exchange:
        """Save the values of all switches before they are changed."""
        released = {name: v for lock in self._locks for name, v in lock.released.items()}
        found = yield from self._get((*self._autofocus_off, *released))
        for name, value in found.items():
            before = released.get(name) if value is None else value
            # A value written before the connection was lost is not the driver's.
            written = name in self._originals and _same(before, self._written.get(name))
            if before is not None and not written:
                self._originals[name] = before

    def _set_position(self, target: PlaneTarget) -> _Exchange:
        in_sweep = target.plane_count > 0
        if in_sweep and self.settings.lock and not self._locks_set:
            yield from self._set_locks()
        # Autofocus off in each request: a restarted driver then never runs it.
        position = {self.profile.position_parameter: self.profile.position(target.dioptres)}
        values = self._autofocus_off | position
        reason = yield from self._set(values)
        if reason:
            self.counts.refused += 1
            self.last_error = f'{self.node_name} refused {target.dioptres:g} dioptres: {reason}'
            self._warn(self.last_error)
        else:
            self.counts.positions += 1
            self._position = values
        if self._target is target:
            self._target = None
        self._on_done(target, reason)
        if not in_sweep and self._locks_set:
            yield from self._release_locks()

    def _set_locks(self) -> _Exchange:
        locked = []
        deadline = self._now + self.settings.timeout
        while self.profile.metadata_topic and not self.metadata and self._now < deadline:
            yield None
        for lock in self.profile.locks(self._offered, self.metadata):
            if not lock.held:
                continue
            reason = yield from self._set(dict(lock.held))
            if reason:
                self._warn(f'{self.node_name} refuses to lock {lock.name}: {reason}')
            else:
                locked.append(lock.name)
        self.locked, self._locks_set = tuple(locked), True

    def _release_locks(self) -> _Exchange:
        for lock in self._locks:
            values = {n: self._originals.get(n, v) for n, v in lock.released.items()}
            if lock.name in self.locked and values:
                yield from self._set(values)
                for name in values:
                    self._written.pop(name, None)
        self.locked, self._locks_set = (), False

    def _check_parameters(self) -> _Exchange:
        """Detect a restart of the driver, or another client that changed its parameters."""
        held = [lock for lock in self._locks if lock.name in self.locked]
        switches = {name: lock.held[name] for lock in held for name in lock.released}
        expected = self._autofocus_off | self._position
        found = yield from self._get(tuple(expected | switches))
        self._require_autofocus_off(found, DriverState.SETTING_UP, 'autofocus is on again')
        for name, value in expected.items():
            if not _same(found.get(name), value):
                raise _DriverError(
                    DriverState.SETTING_UP,
                    f'{self.node_name} has {name} {found.get(name)}, but it was set to {value}: '
                    'was the node restarted?',
                )
        lost = [name for name, value in switches.items() if not _same(found.get(name), value)]
        if lost and self._relocks < _MAX_RELOCKS:
            self._relocks += 1
            self._locks_set = False
            self._warn(f'{self.node_name} has changed {", ".join(lost)}: setting it again')
        elif lost:
            self._warn(f'{self.node_name} does not keep {", ".join(lost)}: it stays unlocked')

    def _require_autofocus_off(
        self, found: Mapping[str, Any], state: DriverState, text: str
    ) -> None:
        for name, value in self._autofocus_off.items():
            if not _same(found.get(name), value):
                raise _DriverError(state, f'{self.node_name}: {text}, {name} is {found.get(name)}')

    def _get(self, names: tuple[str, ...]) -> _Exchange:
        return (yield ParameterCall(ParameterService.GET, names)) if names else {}

    def _set(self, values: dict[str, Value]) -> _Exchange:
        names = frozenset(values)
        interval = self.profile.min_request_interval
        while names != self._set_names and self._now < self._set_at + interval:
            yield None
        reason = yield ParameterCall(ParameterService.SET, values=values)
        self._set_at, self._set_names = self._now, names
        if not reason:
            self._written.update(values)
        return reason


def _same(value: Any, other: Any) -> bool:
    if value is None or other is None:
        return False
    if isinstance(value, float) or isinstance(other, float):
        return math.isclose(value, other, rel_tol=_SINGLE_PRECISION, abs_tol=_SINGLE_PRECISION)
    return bool(value == other)
