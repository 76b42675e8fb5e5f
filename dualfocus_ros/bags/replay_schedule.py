# SPDX-License-Identifier: Apache-2.0
"""The course of a replay: what is due when, loops, pauses and steps. Without ROS."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
import itertools
import math
import time

from dualfocus_ros.bags.reader import BagError, BagMessage, BagReader
from dualfocus_ros.bags.topic_summary import has_header, header_stamp

PAUSE, STEP, QUIT = ' ', 's', 'q'
_WITH_SWEEPS = ('dualfocus_ros/msg/FocusState', 'dualfocus_ros/msg/FocusCommand')
_STACK = 'dualfocus_ros/msg/FocalStack'


@dataclass(frozen=True)
class ReplaySettings:
    """How a bag is played.

    :param rate: times faster than recorded; 0 for as fast as possible.
    :param start_offset: seconds of the bag that are left out at its beginning.
    :param duration: seconds of the bag that are played; infinite for all.
    :param loops: how often; 0 for ever.
    :param loop_delay: seconds, by the wall, for which time stands still at the end of a loop
        before it jumps back: whoever computes something of the last messages finishes it.
    :param settle: seconds from the first clock of a loop to its first message, so that the jump
        is known before the messages come.
    :param clock_period: seconds, by the wall, from one clock to the next.
    """

    rate: float = 1.0
    start_offset: float = 0.0
    duration: float = math.inf
    loops: int = 1
    loop_delay: float = 1.0
    settle: float = 0.2
    clock_period: float = 0.025

    def __post_init__(self) -> None:
        if not self.rate >= 0.0 or math.isinf(self.rate):
            raise ValueError(f'the rate must be 0 or more, got {self.rate:g}')
        for name in ('start_offset', 'duration', 'loop_delay'):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f'{name} must be 0 or more, got {getattr(self, name):g}')
        if self.loops < 0:
            raise ValueError(f'the number of loops must be 0 or more, got {self.loops}')


@dataclass
class ReplayCounts:
    """What has been played."""

    loops: int = 0
    messages: int = 0


class Replay:
    """Plays a bag.

    :param publish: sends one message.
    :param publish_clock: sends the time of the bag, in nanoseconds.
    :param wait: waits for so many seconds, or until a key is pressed, which it returns.
    :param now: a steady clock in seconds.
    """

    def __init__(
        self,
        bag: BagReader,
        topics: Collection[str],
        settings: ReplaySettings,
        publish: Callable[[BagMessage], None],
        publish_clock: Callable[[int], None],
        wait: Callable[[float], str | None],
        now: Callable[[], float] = time.monotonic,
        *,
        paused: bool = False,
        on_state: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._bag = bag
        self._topics = topics
        self._settings = settings
        self._publish = publish
        self._publish_clock = publish_clock
        self._wait = wait
        self._now = now
        self._on_state = on_state
        self._stamped = {
            topic.name
            for topic in bag.topics.values()
            if topic.name in topics and has_header(bag.types, topic.message_type)
        }
        self._sweeps: Sequence[int] | None = None
        self._paused = paused
        self._quit = False
        self._step_until: float | None = None
        self._step_asked = False
        self._pending_ns = 0
        self._anchor = (0.0, 0)
        self._bag_ns = 0
        self._clock_sent = -math.inf
        self._clock_ns = 0
        self.counts = ReplayCounts()

    def run(self) -> ReplayCounts:
        """Play until the end of the last loop, or until the user quits."""
        start = self._bag.start_ns + round(self._settings.start_offset * 1e9)
        if start > self._bag.end_ns:
            length = (self._bag.end_ns - self._bag.start_ns) * 1e-9
            raise BagError(
                f'{self._bag.path} has {length:.3f} s: a start offset of '
                f'{self._settings.start_offset:g} s leaves nothing'
            )
        for loop in itertools.count(1):
            self._play_once(start)
            if self._quit:
                break
            self.counts.loops = loop
            if self._settings.loops in range(1, loop + 1):
                break
            self._hold(self._settings.loop_delay)
        return self.counts

    def _play_once(self, start: int) -> None:
        self._bag_ns = start
        self._send_clock()
        self._hold(self._settings.settle)
        self._anchor = (self._now(), start)
        end = start + self._settings.duration * 1e9
        for message in self._bag.messages(self._topics, start_ns=start):
            if message.stamp_ns > end:
                break
            stamp = header_stamp(message) if message.topic in self._stamped else None
            self._pending_ns = message.stamp_ns if stamp is None else stamp
            if not self._come_to(message.stamp_ns):
                return
            self._publish(message)
            self.counts.messages += 1

    def _come_to(self, stamp_ns: int) -> bool:
        """Wait until a message is due; return false if the user quits."""
        rate = self._settings.rate
        if self._step_until is not None and self._pending_ns >= self._step_until:
            self._step_until = None
            self._pause()
        while not self._quit:
            if self._step_asked:
                self._step_asked = False
                self._step_until = self._next_sweep()
            if self._paused:
                self._react(self._wait(self._settings.clock_period))
                self._anchor = (self._now(), self._bag_ns)
                self._send_clock()
                continue
            ahead = 0.0
            if rate > 0.0:
                wall, bag = self._anchor
                ahead = wall + (stamp_ns - bag) * 1e-9 / rate - self._now()
            if ahead <= 0.0:
                break
            self._react(self._wait(min(ahead, self._settings.clock_period)))
            if not self._paused:
                left = max(0.0, ahead - self._settings.clock_period)
                self._bag_ns = max(self._bag_ns, stamp_ns - round(left * rate * 1e9))
                self._send_clock(due_only=True)
        self._bag_ns = max(self._bag_ns, stamp_ns)
        if not self._quit:
            self._send_clock(due_only=True)
        return not self._quit

    def _hold(self, seconds: float) -> None:
        """Let the time of the bag stand still."""
        until = self._now() + seconds
        while not self._quit and (left := until - self._now()) > 0.0:
            self._react(self._wait(min(left, self._settings.clock_period)))
            self._send_clock(due_only=True)

    def _send_clock(self, due_only: bool = False) -> None:
        period = self._settings.clock_period
        late = self._now() - self._clock_sent >= period
        if due_only and not late and self._bag_ns - self._clock_ns < period * 1e9:
            return
        self._publish_clock(self._bag_ns)
        self._clock_sent, self._clock_ns = self._now(), self._bag_ns

    def _react(self, key: str | None) -> None:
        if key == PAUSE:
            if self._paused:
                self._paused = False
                self._on_state('playing')
            else:
                self._pause()
        elif key == STEP:
            # From where, is known when a message is pending.
            self._step_asked = True
            self._paused = False
        elif key == QUIT:
            self._quit = True

    def _pause(self) -> None:
        self._paused = True
        self._anchor = (self._now(), self._bag_ns)
        self._on_state('paused')

    def _next_sweep(self) -> float:
        """Return the header stamp with which the sweep after the pending message begins."""
        if self._sweeps is None:
            self._sweeps = sweep_starts(self._bag)
        at = bisect_right(self._sweeps, self._pending_ns)
        return self._sweeps[at] if at < len(self._sweeps) else math.inf


def sweep_starts(bag: BagReader) -> list[int]:
    """Return the header stamps with which sweeps begin, from what is said about focus."""
    topics = [t.name for t in bag.topics.values() if t.message_type in (*_WITH_SWEEPS, _STACK)]
    starts: set[int] = set()
    last: dict[str, int] = {}
    for message in bag.messages(topics) if topics else ():
        stamp = header_stamp(message)
        if stamp is None:
            continue
        if message.message_type == _STACK:
            starts.add(stamp)
            continue
        try:
            content = message.message
        except BagError:
            continue
        if content.plane_count and last.get(message.topic) != content.sweep_id:
            last[message.topic] = content.sweep_id
            starts.add(stamp)
    return sorted(starts)
