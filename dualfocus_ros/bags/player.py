# SPDX-License-Identifier: Apache-2.0
"""Playback of a bag at its recorded pace: messages, clock, loops and publishers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
import itertools
import math
import time
from typing import Any

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.reader import BagError, BagMessage, BagReader, BagTopic


@dataclass(frozen=True)
class PlaybackSettings:
    """Pace and extent of a playback.

    :param rate: playback speed relative to the recording; 0 for as fast as possible.
    :param start_offset: seconds to skip at the start of the bag.
    :param duration: seconds of the bag to play; infinite for all.
    :param loops: number of repetitions; 0 for endless.
    :param loop_delay: wall seconds for which bag time stands still at the end of a loop, so that
        nodes finish the last messages before the clock jumps back.
    :param settle: wall seconds between the first clock and the first message of a loop, so that
        nodes have seen the jump.
    :param clock_period: wall seconds between clock messages.
    :raises ValueError: for values out of range.
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
            raise ValueError(f'rate must be 0 or more, got {self.rate:g}')
        for name in ('start_offset', 'duration', 'loop_delay'):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f'{name} must be 0 or more, got {getattr(self, name):g}')
        if self.loops < 0:
            raise ValueError(f'loops must be 0 or more, got {self.loops}')


@dataclass
class PlaybackCounts:
    """Messages sent and loops completed."""

    loops: int = 0
    messages: int = 0


class BagPlayer:
    """Play a bag by its own clock.

    :param topics: topics of the bag to play.
    :param publish: sends one message.
    :param publish_clock: sends bag time in nanoseconds.
    :param sleep: waits for a number of seconds.
    :param now: monotonic clock in seconds.
    """

    def __init__(
        self,
        bag: BagReader,
        topics: Collection[str],
        settings: PlaybackSettings,
        publish: Callable[[BagMessage], None],
        publish_clock: Callable[[int], None] = lambda stamp_ns: None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bag = bag
        self._topics = topics
        self._settings = settings
        self._publish = publish
        self._publish_clock = publish_clock
        self._sleep = sleep
        self._now = now
        self._bag_ns = 0
        self._clock_sent = -math.inf
        self._clock_ns = 0
        self.counts = PlaybackCounts()

    def run(self) -> PlaybackCounts:
        """Play all loops.

        :raises BagError: if the start offset exceeds the length of the bag.
        """
        start = self._bag.start_ns + round(self._settings.start_offset * 1e9)
        if start > self._bag.end_ns:
            length = (self._bag.end_ns - self._bag.start_ns) * 1e-9
            raise BagError(
                f'{self._bag.path} has {length:.3f} s: a start offset of '
                f'{self._settings.start_offset:g} s leaves nothing'
            )
        for loop in itertools.count(1):
            self._play_loop(start)
            self.counts.loops = loop
            if self._settings.loops in range(1, loop + 1):
                break
            self._hold(self._settings.loop_delay)
        return self.counts

    def _play_loop(self, start: int) -> None:
        self._bag_ns = start
        self._send_clock()
        self._hold(self._settings.settle)
        began = self._now()
        end = start + self._settings.duration * 1e9
        for message in self._bag.messages(self._topics, start_ns=start):
            if message.stamp_ns > end:
                break
            self._wait_until_due(message.stamp_ns, began, start)
            self._publish(message)
            self.counts.messages += 1

    def _wait_until_due(self, stamp_ns: int, began: float, start: int) -> None:
        """Advance bag time to ``stamp_ns``, publishing the clock meanwhile."""
        rate, period = self._settings.rate, self._settings.clock_period
        while rate > 0.0:
            ahead = began + (stamp_ns - start) * 1e-9 / rate - self._now()
            if ahead <= 0.0:
                break
            self._sleep(min(ahead, period))
            left = max(0.0, ahead - period)
            self._bag_ns = max(self._bag_ns, stamp_ns - round(left * rate * 1e9))
            self._send_clock(due_only=True)
        self._bag_ns = max(self._bag_ns, stamp_ns)
        self._send_clock(due_only=True)

    def _hold(self, seconds: float) -> None:
        """Keep bag time still for a number of wall seconds."""
        until = self._now() + seconds
        while (left := until - self._now()) > 0.0:
            self._sleep(min(left, self._settings.clock_period))
            self._send_clock(due_only=True)

    def _send_clock(self, due_only: bool = False) -> None:
        period = self._settings.clock_period
        late = self._now() - self._clock_sent >= period
        if due_only and not late and self._bag_ns - self._clock_ns < period * 1e9:
            return
        self._publish_clock(self._bag_ns)
        self._clock_sent, self._clock_ns = self._now(), self._bag_ns


class TopicPublisher:
    """Publishers for the topics of a bag; serialised messages go out unchanged.

    :param node: an rclpy node.
    :param bag: an open bag.
    :param topics: topics of the bag to publish; None for all.
    :param remap: published name by name in the bag.
    """

    def __init__(
        self,
        node: Any,
        bag: BagReader,
        topics: Collection[str] | None = None,
        remap: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node
        self._remap = dict(remap or {})
        #: Reason by topic without an installed message class.
        self.skipped: dict[str, str] = {}
        self._publishers: dict[str, Any] = {}
        selected = bag.topics if topics is None else {name: bag.topics[name] for name in topics}
        for name, topic in selected.items():
            try:
                self._publishers[name] = self._create_publisher(topic)
            except (ImportError, AttributeError, ValueError):
                self.skipped[name] = f'no message class {topic.message_type} is installed'

    @property
    def topics(self) -> frozenset[str]:
        """Published topics, by their names in the bag."""
        return frozenset(self._publishers)

    @property
    def all_subscribed(self) -> bool:
        """Whether every topic has a subscriber."""
        return all(p.get_subscription_count() > 0 for p in self._publishers.values())

    def publish(self, message: BagMessage) -> None:
        """Publish one message."""
        self._publishers[message.topic].publish(message.data)

    def wait_for_acknowledgements(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for all reliable subscriptions; return whether all have.

        Messages in flight are lost if the publishers are destroyed earlier.
        """
        from rclpy.duration import Duration

        until = time.monotonic() + timeout
        return all(
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, until - time.monotonic())))
            for publisher in self._publishers.values()
        )

    def _create_publisher(self, topic: BagTopic) -> Any:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        best_effort = any(qos.reliability.name == 'BEST_EFFORT' for qos in topic.qos)
        latched = {qos.durability.name for qos in topic.qos} == {'TRANSIENT_LOCAL'}
        reliability, durability = ReliabilityPolicy, DurabilityPolicy
        profile = QoSProfile(
            depth=max([10, *(qos.depth for qos in topic.qos)]),
            reliability=reliability.BEST_EFFORT if best_effort else reliability.RELIABLE,
            durability=durability.TRANSIENT_LOCAL if latched else durability.VOLATILE,
        )
        name = self._remap.get(topic.name, topic.name)
        return self._node.create_publisher(import_message_class(topic.message_type), name, profile)
