# SPDX-License-Identifier: Apache-2.0
"""Playing of bags onto live topics. Needs a node of rclpy, which the caller brings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
import time
from typing import Any

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.reader import BagMessage, BagReader, BagTopic


class BagPlayer:
    """Publishes the messages of a bag as they are: headers keep their recorded stamps.

    :param node: an rclpy node.
    :param bag: an open bag.
    :param topics: which of its topics to play; by default all.
    :param remap: other names to publish under.
    """

    def __init__(
        self,
        node: Any,
        bag: BagReader,
        topics: Collection[str] | None = None,
        remap: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node
        self._bag = bag
        self._remap = dict(remap or {})
        #: Topics that cannot be played, with the reason.
        self.skipped: dict[str, str] = {}
        self._publishers: dict[str, Any] = {}
        wanted = bag.topics if topics is None else {name: bag.topics[name] for name in topics}
        for name, topic in wanted.items():
            try:
                self._publishers[name] = self._publisher(topic)
            except (ImportError, AttributeError, ValueError):
                self.skipped[name] = f'no message class {topic.message_type} is installed'

    @property
    def topics(self) -> frozenset[str]:
        """The topics of the bag that are played."""
        return frozenset(self._publishers)

    @property
    def subscribed(self) -> bool:
        """Whether somebody listens to every topic."""
        return all(p.get_subscription_count() > 0 for p in self._publishers.values())

    def publish(self, message: BagMessage) -> None:
        """Publish one message."""
        self._publishers[message.topic].publish(message.data)

    def play(self, *, rate: float = 1.0, keep_going: Callable[[], bool] = lambda: True) -> int:
        """Publish everything, paced by the bag's clock, and return the number of messages.

        :param rate: how much faster than recorded; 0 for as fast as possible.
        :param keep_going: asked before each message.
        """
        count = 0
        began = time.monotonic()
        for message in self._bag.messages(self._publishers):
            if rate > 0.0:
                due = began + (message.stamp_ns - self._bag.start_ns) * 1e-9 / rate
                time.sleep(max(0.0, due - time.monotonic()))
            if not keep_going():
                break
            self.publish(message)
            count += 1
        return count

    def wait_until_received(self, seconds: float) -> bool:
        """Wait until every reliable subscription has everything; return whether it has."""
        from rclpy.duration import Duration

        until = time.monotonic() + seconds
        return all(
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, until - time.monotonic())))
            for publisher in self._publishers.values()
        )

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _publisher(self, topic: BagTopic) -> Any:
        from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

        message_class = import_message_class(topic.message_type)
        reliable = all(qos.reliability.name != 'BEST_EFFORT' for qos in topic.qos)
        latched = bool(topic.qos) and all(
            qos.durability.name == 'TRANSIENT_LOCAL' for qos in topic.qos
        )
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=max([10, *(qos.depth for qos in topic.qos)]),
            reliability=(
                ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            ),
            durability=(
                DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            ),
        )
        return self._node.create_publisher(
            message_class, self._remap.get(topic.name, topic.name), profile
        )
