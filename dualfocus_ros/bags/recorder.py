# SPDX-License-Identifier: Apache-2.0
"""Recording of live topics into a bag. Needs an rclpy node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import logging
import threading
import time
from typing import Any

from dualfocus_ros.bags.message_types import import_message_class, type_name
from dualfocus_ros.bags.writer import BagWriter, to_bag_qos
from dualfocus_ros.topics import (
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    FOCAL_STACK,
    IMAGE,
    RECORDED_OUTPUTS,
    SWEEP_INPUTS,
)

logger = logging.getLogger(__name__)

# Message type by topic name.
_INPUTS = {topic.name: topic.message_type for topic in (*SWEEP_INPUTS, FOCAL_STACK)}
_OUTPUTS = {topic.name: topic.message_type for topic in RECORDED_OUTPUTS}
_DISCOVERY_SECONDS = 0.2
_FLUSH_SECONDS = 1.0
_QUEUE = 50  # messages of a subscription


@dataclass(frozen=True)
class TopicSelection:
    """Topics to record.

    :param topics: absolute names; None to select by name and type.
    :param prefix: namespace of the inputs, such as ``/camera``; empty for any.
    :param outputs: include the outputs of the depth node and diagnostics.
    :param transport: ``raw`` or ``compressed`` images, or ``both``.
    """

    topics: frozenset[str] | None = None
    prefix: str = ''
    outputs: bool = False
    transport: str = 'raw'

    def includes(self, name: str, message_type: str) -> bool:
        """Whether a topic is selected."""
        if self.topics is not None:
            return name in self.topics
        is_output = _matches(name, message_type, _OUTPUTS)
        if self.outputs and (is_output or name == DIAGNOSTICS):
            return True
        if self.prefix and not name.startswith(f'{self.prefix}/'):
            return False
        if is_output or not _matches(name, message_type, _INPUTS):
            return False
        excluded = {'raw': COMPRESSED_IMAGE, 'compressed': IMAGE}.get(self.transport)
        return message_type != excluded


class TopicRecorder:
    """Write serialised messages of topics into a bag.

    A subscription is reliable if every publisher offers it (a best-effort one loses most of a
    stream of large images), else best effort. It is therefore created when the first publisher
    appears: call :meth:`discover` repeatedly.

    :param node: an rclpy node; its executor must call back one message at a time.
    :param topics: message class by topic name.
    :param writer: the bag; None to only call the listener.
    :param listener: called with topic, serialised message and receipt time in nanoseconds,
        after the message is written.
    """

    def __init__(
        self,
        node: Any,
        topics: Mapping[str, type],
        writer: BagWriter | None,
        listener: Callable[[str, bytes, int], None] | None = None,
    ) -> None:
        self._node = node
        self._topics = dict(topics)
        self._writer = writer
        self._listener = listener
        self._subscriptions: dict[str, Any] = {}
        self.counts = dict.fromkeys(topics, 0)

    def add(self, topic: str, message_class: type) -> None:
        """Add a topic; the next :meth:`discover` can subscribe to it."""
        self._topics[topic] = message_class
        self.counts.setdefault(topic, 0)

    @property
    def unsubscribed(self) -> set[str]:
        """Topics without a subscription."""
        return set(self._topics) - set(self._subscriptions)

    def discover(self) -> set[str]:
        """Subscribe to topics that have a publisher now; return those without one."""
        for topic in self.unsubscribed:
            offers = self._node.get_publishers_info_by_topic(topic)
            if offers:
                self._subscribe(topic, [offer.qos_profile for offer in offers])
        return self.unsubscribed

    def close(self) -> None:
        """Destroy the subscriptions; the writer stays open."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe(self, topic: str, offers: list[Any]) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        reliability, durability = ReliabilityPolicy, DurabilityPolicy
        reliable = all(offer.reliability == reliability.RELIABLE for offer in offers)
        latched = all(offer.durability == durability.TRANSIENT_LOCAL for offer in offers)
        profile = QoSProfile(
            depth=_QUEUE,
            reliability=reliability.RELIABLE if reliable else reliability.BEST_EFFORT,
            durability=durability.TRANSIENT_LOCAL if latched else durability.VOLATILE,
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


def record(
    node: Any,
    writer: BagWriter,
    selection: TopicSelection,
    stop: threading.Event,
    *,
    duration: float | None = None,
    image_timeout: float = 0.0,
    on_progress: Callable[[int], None] = lambda messages: None,
) -> None:
    """Record the selected topics, including those that appear later, in this thread.

    The writer is flushed every second, so that a crash loses at most that much.

    :param node: an rclpy node.
    :param stop: set to end the recording.
    :param duration: seconds to record; None until ``stop``.
    :param image_timeout: start of the duration is the first image, or this many seconds later.
    :param on_progress: called with the number of messages so far.
    """
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = TopicRecorder(node, {}, writer)
    unknown: set[str] = set()  # topics without message class
    began = time.monotonic()
    waiting = image_timeout > 0.0
    discovered = flushed = -1e9
    try:
        while not stop.is_set():
            now = time.monotonic()
            if waiting:
                waiting = now - began < image_timeout and not _has_images(recorder.counts)
                began = began if waiting else now
            elif duration is not None and now - began >= duration:
                break
            if now - discovered > _DISCOVERY_SECONDS:
                discovered = now
                _add_new_topics(node, recorder, selection, unknown)
            executor.spin_once(timeout_sec=0.1)
            if now - flushed > _FLUSH_SECONDS:
                flushed = now
                writer.flush()
            on_progress(sum(recorder.counts.values()))
    finally:
        recorder.close()
        executor.shutdown()


def _has_images(counts: Mapping[str, int]) -> bool:
    endings = ('/image_raw', '/image_raw/compressed')
    return any(count for name, count in counts.items() if name.endswith(endings))


def _add_new_topics(
    node: Any, recorder: TopicRecorder, selection: TopicSelection, unknown: set[str]
) -> None:
    """Record new selected topics; note those without message class in ``unknown``."""
    for name, types in node.get_topic_names_and_types():
        if name in recorder.counts or name in unknown or not selection.includes(name, types[0]):
            continue
        try:
            message_class = import_message_class(types[0])
        except ImportError:
            unknown.add(name)
            logger.warning('%s is not recorded: no message class %s', name, types[0])
            continue
        recorder.add(name, message_class)
    for topic in recorder.unsubscribed - recorder.discover():
        logger.info('recording %s', topic)


def _matches(name: str, message_type: str, known: Mapping[str, str]) -> bool:
    return any(
        name.endswith(f'/{suffix}') and message_type == kind for suffix, kind in known.items()
    )
