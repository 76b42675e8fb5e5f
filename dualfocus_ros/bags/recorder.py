# SPDX-License-Identifier: Apache-2.0
"""Recording of live topics into a bag. Needs a node of rclpy, which the caller brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dualfocus_ros.bags.message_types import type_name
from dualfocus_ros.bags.split_writer import SplitBagWriter
from dualfocus_ros.bags.writer import BagWriter, to_bag_qos

Listener = Callable[[str, bytes, int], None]


class TopicRecorder:
    """Subscribes to topics, undeserialised, and writes what comes into a bag.

    A subscription is reliable where every publisher offers it (a best-effort one loses most of a
    stream of large images), else best effort; so it is made when the first publisher is there:
    call :meth:`discover` now and then.

    :param node: an rclpy node; its executor calls back, one message at a time.
    :param topics: message class by topic name.
    :param writer: where to write, or None to only listen.
    :param listener: called with topic, serialised message and receipt time in nanoseconds,
        after the message is written.
    """

    def __init__(
        self,
        node: Any,
        topics: Mapping[str, type],
        writer: BagWriter | SplitBagWriter | None,
        listener: Listener | None = None,
        *,
        depth: int = 50,
    ) -> None:
        self._node = node
        self._topics = dict(topics)
        self._writer = writer
        self._listener = listener
        self._depth = depth
        self._subscriptions: dict[str, Any] = {}
        self.counts = dict.fromkeys(topics, 0)

    def add(self, topic: str, message_class: type) -> None:
        """Listen to one more topic, from the next :meth:`discover` on."""
        self._topics[topic] = message_class
        self.counts.setdefault(topic, 0)

    def discover_new(self) -> set[str]:
        """Subscribe to the topics that have a publisher by now; return the new ones."""
        before = set(self._subscriptions)
        self.discover()
        return set(self._subscriptions) - before

    def discover(self) -> set[str]:
        """Subscribe to the topics that have a publisher by now; return those still without."""
        for topic in set(self._topics) - set(self._subscriptions):
            offers = self._node.get_publishers_info_by_topic(topic)
            if offers:
                self._subscribe(topic, [offer.qos_profile for offer in offers])
        return set(self._topics) - set(self._subscriptions)

    def close(self) -> None:
        """Stop listening; the writer stays open."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe(self, topic: str, offers: list[Any]) -> None:
        from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._depth,
            reliability=(
                ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            ),
            durability=(
                DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            ),
        )
        message_class = self._topics[topic]
        message_type = type_name(message_class)
        if self._writer is not None:
            self._writer.add_topic(topic, message_type, [to_bag_qos(offer) for offer in offers])

        def receive(data: bytes) -> None:
            stamp_ns = self._node.get_clock().now().nanoseconds
            if self._writer is not None:
                self._writer.write(topic, message_type, stamp_ns, data)
            self.counts[topic] += 1
            if self._listener is not None:
                self._listener(topic, data, stamp_ns)

        self._subscriptions[topic] = self._node.create_subscription(
            message_class, topic, receive, profile, raw=True
        )
