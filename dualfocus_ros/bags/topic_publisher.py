# SPDX-License-Identifier: Apache-2.0
"""Publish bag messages on live topics with the recorded types and QoS. Needs an rclpy node."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import time
from typing import Any

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.reader import BagMessage, BagReader, BagTopic


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

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _create_publisher(self, topic: BagTopic) -> Any:
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
