# SPDX-License-Identifier: Apache-2.0
"""The conversation with a camera driver: what to ask next, and what to make of the answers.

No clock and no ROS: the caller passes a steady time in seconds, makes the calls that it is given
and hands back the answers. Each exchange is written down as it goes, in a generator that stops
wherever an answer has to be waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
import enum
import math
from typing import Any

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile, Lock, Value

# A driver may keep numbers in single precision.
_SINGLE = 1e-5
# Seconds without a trouble after which it is worth another line in the log.
_QUIET = 60.0
_REMEMBERED = 50
# Times that a lock is put back before it is given up.
_RELOCKS = 3


class ParameterService(enum.Enum):
    """A service of the driver, by which a call goes."""

    LIST = 'list_parameters'
    GET = 'get_parameters'
    SET = 'set_parameters_atomically'


@dataclass(frozen=True, eq=False)
class Call:
    """One call to make.

    Its answer is a list of names (LIST), values by name (GET, None where the driver has none), or
    the reason of a refusal, empty if there was none (SET).
    """

    kind: ParameterService
    names: tuple[str, ...] = ()
    values: Mapping[str, Value] | None = None


class DriverState(enum.Enum):
    """How it stands with the driver."""

    ABSENT = 'absent'
    SETTING_UP = 'setting up'
    READY = 'ready'
    UNRESPONSIVE = 'deaf'
    UNSUPPORTED = 'unfit'


@dataclass(frozen=True)
class DriverClientSettings:
    """Times in seconds.

    :param timeout: for an answer; also the pause before a new attempt.
    :param check_period: between two looks at whether the driver still has what it was given.
    :param lock: whether exposure, gain and white balance are held still.
    """

    timeout: float = 1.0
    check_period: float = 1.0
    lock: bool = True


@dataclass
class DriverClientCounts:
    """What happened so far."""

    calls: int = 0
    timeouts: int = 0
    set_ups: int = 0
    positions: int = 0
    refused: int = 0


class _FaultError(Exception):
    """Ends the exchange; a new one begins after a pause."""

    def __init__(self, state: DriverState, text: str) -> None:
        super().__init__(text)
        self.state = state


Script = Generator['Call | None', Any, None]
Asked = Generator['Call | None', Any, Any]


class LensDriverClient:
    """Brings a driver into a state in which it can be swept, and sends its lens to positions.

    :param target: name of the driver's node, for texts.
    :param done: told of each order that was carried out, or the reason why it was refused; must
        not call the session.
    :ivar problem: why the lens cannot be driven now; empty if it can.
    :ivar notices: texts for the log, each with whether it is a warning; said once.
    :ivar observed: the metadata of the newest frame, where the driver publishes any.
    """

    def __init__(
        self,
        profile: DriverProfile,
        target: str,
        settings: DriverClientSettings,
        done: Callable[[PlaneTarget, str], None],
    ) -> None:
        self.profile = profile
        self.target = target
        self.settings = settings
        self.counts = DriverClientCounts()
        self.state = DriverState.ABSENT
        self.problem = f'{target} is not there'
        self.last_error = ''
        self.missing_switches: tuple[str, ...] = ()
        self.held: tuple[str, ...] = ()
        self.notices: deque[tuple[bool, str]] = deque()
        self.metadata: Mapping[str, str] = {}
        self._done = done
        self._said: dict[str, float] = {}
        self._warned = True
        self._target: PlaneTarget | None = None
        self._script: Script | None = None
        self._call: Call | None = None
        self._called = self._retry_at = self._set_at = -math.inf
        self._set_names: frozenset[str] = frozenset()
        self._now = 0.0
        self._offered: frozenset[str] = frozenset()
        self._off: dict[str, Value] = {}
        self._locks: tuple[Lock, ...] = ()
        self._position: dict[str, Value] = {}
        self._originals: dict[str, Value] = {}
        self._ours: dict[str, Value] = {}
        self._holding = False
        self._relocks = 0

    @property
    def ready(self) -> bool:
        """Whether the lens can be sent to positions."""
        return self.state == DriverState.READY

    @property
    def busy(self) -> bool:
        """Whether an order has not been carried out yet."""
        return self._target is not None

    def command(self, target: PlaneTarget) -> None:
        """Send the lens somewhere; an order not yet carried out is forgotten."""
        self._target = target

    def update(self, now: float, present: bool) -> Call | None:
        """Return a call to make now, or None; to be called often.

        :param present: whether the driver's services are there.
        """
        self._now = now
        if not present:
            if self.state != DriverState.ABSENT:
                self._end(DriverState.ABSENT, f'{self.target} is gone')
            return None
        if self._call is not None:
            if now - self._called < self.settings.timeout:
                return None
            self.counts.timeouts += 1
            service = self._call.kind.value
            self._call = None
            text = f'{self.target} has not answered {service} for {self.settings.timeout:g} s'
            return self._advance(fault=_FaultError(DriverState.UNRESPONSIVE, text))
        if self._script is None:
            if now < self._retry_at:
                return None
            self._script = self._run()
        return self._advance()

    def answered(self, call: Call, answer: Any, now: float) -> Call | None:
        """Take the answer to a call; returns the next call. Answers too late are ignored."""
        if call is not self._call:
            return None
        self._now = now
        self._call = None
        return self._advance(answer)

    def restore_values(self) -> dict[str, Value]:
        """Return what to set so that the driver is left as it was found; empty if it is."""
        return (
            {
                name: value
                for name, value in self._originals.items()
                if name in self._ours and not _same(value, self._ours[name])
            }
            if self.state == DriverState.READY
            else {}
        )

    def _advance(self, answer: Any = None, fault: _FaultError | None = None) -> Call | None:
        script = self._script
        assert script is not None
        try:
            call = script.send(answer) if fault is None else script.throw(fault)
        except _FaultError as error:
            self._end(error.state, str(error))
            return None
        if call is not None:
            self._call, self._called = call, self._now
            self.counts.calls += 1
        return call

    def _end(self, state: DriverState, text: str) -> None:
        """Give up the exchange; an order in it is lost."""
        self.state = state
        self.problem = self.last_error = text
        self._script = self._call = self._target = None
        self._position = {}
        self.held, self._holding = (), False
        self._retry_at = (
            -math.inf
            if state in (DriverState.ABSENT, DriverState.SETTING_UP)
            else (self._now + self.settings.timeout)
        )
        self._warn(text)

    def _warn(self, text: str) -> None:
        """Say something once, however often it recurs; again only after a time of quiet."""
        last = self._said.pop(text, -math.inf)
        self._said[text] = self._now
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        if self._now - last > _QUIET:
            self._warned = True
            self.notices.append((True, text))

    def _run(self) -> Script:
        yield from self._set_up()
        next_check = self._now + self.settings.check_period
        while True:
            if self._target is not None:
                yield from self._move_lens(self._target)
            elif self._now >= next_check:
                yield from self._check()
                next_check = self._now + self.settings.check_period
            else:
                yield None

    def _set_up(self) -> Script:
        """Switch autofocus off and look whether it is."""
        profile = self.profile
        if self.state == DriverState.ABSENT:
            self.state, self.problem = DriverState.SETTING_UP, f'{self.target} is being set up'
        self._offered = frozenset((yield Call(ParameterService.LIST)))
        if profile.position_parameter not in self._offered:
            raise _FaultError(
                DriverState.UNSUPPORTED,
                (
                    f'{self.target} has no parameter {profile.position_parameter}: is it a node of '
                    f'the driver {profile.name}, and has its camera a lens that moves?'
                ),
            )
        self._off = profile.autofocus_off_values(self._offered)
        self._locks = profile.locks(self._offered, self.metadata)
        self._report_missing_switches()
        released = {name: v for lock in self._locks for name, v in lock.released.items()}
        found = yield from self._get((*self._off, *released))
        for name, value in found.items():
            before = released.get(name) if value is None else value
            # Our own value, found again after a lapse, is not what the driver had before.
            ours = name in self._originals and _same(before, self._ours.get(name))
            if before is not None and not ours:
                self._originals[name] = before
        if self._off:
            reason = yield from self._set(self._off)
            if reason:
                raise _FaultError(
                    DriverState.UNSUPPORTED,
                    f'{self.target} refuses to switch autofocus off: {reason}',
                )
            found = yield from self._get(tuple(self._off))
            self._require_autofocus_off(
                found, DriverState.UNSUPPORTED, 'autofocus does not stay off'
            )
        self.counts.set_ups += 1
        self.state, self.problem = DriverState.READY, ''
        if self._warned:
            self._warned = False
            self.notices.append(
                (
                    False,
                    (
                        f'{self.target} is ready: {profile.position_parameter} moves the lens'
                        + (', autofocus is off' if self._off else '')
                    ),
                )
            )

    def _report_missing_switches(self) -> None:
        lacking = [] if self._off else ['autofocus']
        if self.settings.lock:
            lacking += [lock.name for lock in self._locks if not lock.held]
        if tuple(lacking) != self.missing_switches:
            self.missing_switches = tuple(lacking)
            if lacking:
                text = f'{self.target} has no switch for {", ".join(lacking)}'
                self.notices.append((False, text))

    def _move_lens(self, target: PlaneTarget) -> Script:
        if target.plane_count and self.settings.lock and not self._holding:
            yield from self._hold()
        values = {
            **self._off,
            self.profile.position_parameter: self.profile.position(target.dioptres),
        }
        # With autofocus off in each request, a driver that has started anew never runs it.
        reason = yield from self._set(values)
        if reason:
            self.counts.refused += 1
            self.last_error = f'{self.target} refused {target.dioptres:g} dioptres: {reason}'
            self._warn(self.last_error)
        else:
            self.counts.positions += 1
            self._position = values
        if self._target is target:
            self._target = None
        self._done(target, reason)
        if not target.plane_count and self._holding:
            yield from self._release_locks()

    def _hold(self) -> Script:
        held = []
        patience = self._now + self.settings.timeout
        while self.profile.publishes_metadata and not self.metadata and self._now < patience:
            yield None
        for lock in self.profile.locks(self._offered, self.metadata):
            if not lock.held:
                continue
            reason = yield from self._set(dict(lock.held))
            if reason:
                self._warn(f'{self.target} does not let {lock.name} be held still: {reason}')
            else:
                held.append(lock.name)
        self.held, self._holding = tuple(held), True

    def _release_locks(self) -> Script:
        for lock in self._locks:
            values = {n: self._originals.get(n, v) for n, v in lock.released.items()}
            if lock.name in self.held and values:
                yield from self._set(values)
                for name in values:
                    self._ours.pop(name, None)
        self.held, self._holding = (), False

    def _check(self) -> Script:
        """See whether the driver was started anew, or somebody else has set it."""
        switches = {
            name: lock.held[name]
            for lock in self._locks
            if lock.name in self.held
            for name in lock.released
        }
        expected = {**self._off, **self._position}
        found = yield from self._get(tuple({**expected, **switches}))
        self._require_autofocus_off(found, DriverState.SETTING_UP, 'autofocus is on again')
        for name, value in expected.items():
            if not _same(found.get(name), value):
                raise _FaultError(
                    DriverState.SETTING_UP,
                    (
                        f'{self.target} has {name} {found.get(name)}, which was set to {value}: was '
                        'it started anew?'
                    ),
                )
        lost = [name for name, value in switches.items() if not _same(found.get(name), value)]
        if lost and self._relocks < _RELOCKS:
            self._relocks += 1
            self._holding = False
            self._warn(f'{self.target} has changed {", ".join(lost)}: setting it again')
        elif lost:
            self._warn(f'{self.target} does not keep {", ".join(lost)}: given up')

    def _require_autofocus_off(
        self, found: Mapping[str, Any], state: DriverState, text: str
    ) -> None:
        for name, value in self._off.items():
            if not _same(found.get(name), value):
                raise _FaultError(state, f'{self.target}: {text}, {name} is {found.get(name)}')

    def _get(self, names: tuple[str, ...]) -> Asked:
        return (yield Call(ParameterService.GET, names)) if names else {}

    def _set(self, values: dict[str, Value]) -> Asked:
        names = frozenset(values)
        while names != self._set_names and self._now < self._set_at + self.profile.pause:
            yield None
        reason = yield Call(ParameterService.SET, values=values)
        self._set_at, self._set_names = self._now, names
        if not reason:
            self._ours.update(values)
        return reason


def _same(value: Any, other: Any) -> bool:
    if value is None or other is None:
        return False
    if isinstance(value, float) or isinstance(other, float):
        return math.isclose(value, other, rel_tol=_SINGLE, abs_tol=_SINGLE)
    return bool(value == other)
