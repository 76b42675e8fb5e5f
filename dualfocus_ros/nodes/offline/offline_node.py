# SPDX-License-Identifier: Apache-2.0
"""Depth node without DDS: its inputs, assembler, estimator and outputs, fed from a bag.

The parts of the depth node get :class:`OfflineNode` in place of a node of rclpy. It passes them
the messages of a bag and passes the published messages to a sink, without a context or a DDS
domain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
import logging
import math
import time
from types import SimpleNamespace
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dualfocus_ros.bags.reader import BagMessage
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.nodes.inputs import INPUTS
from dualfocus_ros.nodes.monitoring.output_statistics import OutputStatistics
from dualfocus_ros.nodes.outputs import OutputPublishers
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.qos import AS_OFFERED
from dualfocus_ros.nodes.stack_processor import Estimator, StackJob, StackProcessor
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.topics import STACK_INFO

# Period of the ticks by the time of the bag; the timer of the node has 0.1 s too.
_TICK_NS = 100_000_000
_CALIBRATED = (Image, CompressedImage, FocalStackMsg)
Sink = Callable[[str, Any], None]


@dataclass(frozen=True, eq=False)
class _Subscription:
    kind: Any
    callback: Callable[[Any], None]
    qos_profile: Any


class _Publisher:
    """Publisher to the sink, with a constant number of subscribers."""

    def __init__(self, name: str, topic: str, qos: Any, listeners: int, sink: Sink) -> None:
        self.topic_name = topic
        self.qos_profile = qos
        self._name = name
        self._listeners = listeners
        self._sink = sink

    def get_subscription_count(self) -> int:
        return self._listeners

    def publish(self, message: Any) -> None:
        if self._name == STACK_INFO.name:
            # Timings differ from run to run; the same bag gives the same bytes.
            message.assemble_ms = message.inference_ms = message.publish_ms = math.nan
        self._sink(self.topic_name, message)


class OfflineNode:
    """Interface of a node that the parts of the depth node use, without DDS.

    :param remap: names of topics in the bag by names of the node, both absolute.
    :param subscribed: relative names of the outputs with a subscriber.
    :param sink: called with topic and message of each published message.
    """

    def __init__(self, remap: Mapping[str, str], subscribed: Collection[str], sink: Sink) -> None:
        self.now_ns = 0
        self.subscriptions: dict[str, _Subscription] = {}
        self._remap = dict(remap)
        self._subscribed = frozenset(subscribed)
        self._sink = sink

    def resolve_topic_name(self, topic: str) -> str:
        """Return the name of a topic in the bag."""
        absolute = topic if topic.startswith('/') else f'/{topic}'
        return self._remap.get(absolute, absolute)

    def get_clock(self) -> Any:
        """Return a clock with the time of the bag."""
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns))

    def get_logger(self) -> logging.Logger:
        """Return the logger of this module."""
        return logging.getLogger(__name__)

    def has_parameter(self, name: str) -> bool:
        """Return true: overrides of the quality of service count as declared."""
        return True

    def get_parameter(self, name: str) -> Any:
        """Return the value without an override."""
        return SimpleNamespace(value=AS_OFFERED)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        """Return no publishers."""
        return []

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any, **_: Any
    ) -> _Subscription:
        """Register the callback of a topic."""
        self.subscriptions[topic] = _Subscription(kind, callback, qos)
        return self.subscriptions[topic]

    def destroy_subscription(self, subscription: _Subscription) -> None:
        """Remove the callback."""
        for topic, known in list(self.subscriptions.items()):
            if known is subscription:
                del self.subscriptions[topic]

    def create_lifecycle_publisher(self, kind: Any, topic: str, qos: Any, **_: Any) -> _Publisher:
        """Return a publisher to the sink."""
        listeners = int(topic in self._subscribed)
        return _Publisher(topic, self.resolve_topic_name(topic), qos, listeners, self._sink)

    def destroy_lifecycle_publisher(self, publisher: _Publisher) -> None:
        """Do nothing: the publisher holds no resources."""


class OfflinePipeline:
    """Processes messages of a bag like the depth node, one after the other on one thread.

    :param settings: the parameters.
    :param node: stand-in for the node, with the topics.
    :param estimator: computes depth; None assembles stacks only.
    :param camera: a CameraInfo for all images, in place of those in the bag.
    :param on_stack: called with each stack before the estimate.
    """

    def __init__(
        self,
        settings: DepthNodeSettings,
        node: OfflineNode,
        estimator: Estimator | None,
        camera: CameraInfo | None = None,
        on_stack: Callable[[FocalStack], None] = lambda stack: None,
    ) -> None:
        self.stage_counter = StageCounter()
        self.stacks = 0
        self.failure: Exception | None = None
        self._settings = settings
        self._node: Any = node
        self._estimator = estimator
        self._camera = camera
        self._on_stack = on_stack
        self._processor = StackProcessor(
            OutputPublishers(self._node), self.stage_counter, OutputStatistics(), lambda: 0
        )
        self._input = INPUTS[settings.input](
            self._node,
            lambda: settings,
            self.stage_counter,
            self._process,
            # No prefetch: the stack follows as soon as its messages are read.
            lambda plane: None,
        )
        self._input.enabled = True
        self._input.start()
        self._last_tick_ns: int | None = None

    @property
    def topics(self) -> frozenset[str]:
        """The topics of the bag that are used."""
        replaced = set()
        if self._camera is not None:
            replaced.add(self._node.resolve_topic_name('camera_info'))
        return frozenset(self._node.subscriptions) - replaced

    def take(self, message: BagMessage) -> None:
        """Process the next message, in the order of the bag's clock."""
        self._tick(message.stamp_ns)
        subscription = self._node.subscriptions[message.topic]
        try:
            decoded = deserialize_message(message.data, subscription.kind)
        except Exception as error:  # the type depends on the rmw implementation
            self.stage_counter.reject(
                Stage.VALID,
                'not_decodable',
                f'{len(message.data)} bytes on {message.topic} are not a {message.message_type}: '
                f'{type(error).__name__}',
            )
            return
        if self._camera is not None and subscription.kind in _CALIBRATED:
            self._calibrate(decoded.header)
        subscription.callback(decoded)

    def _calibrate(self, header: Any) -> None:
        """Pass the given calibration with the header of an image, like a driver."""
        assert self._camera is not None
        self._camera.header = header
        topic = self._node.resolve_topic_name('camera_info')
        self._node.subscriptions[topic].callback(self._camera)

    def finish(self) -> None:
        """Close the sweep in progress, like the node after the last image."""
        self._input.tick(self._node.now_ns)
        self._input.tick(self._node.now_ns + round(self._settings.stack_timeout * 1e9) + 1)

    def _tick(self, stamp_ns: int) -> None:
        """Run the ticks of the node up to ``stamp_ns``."""
        if self._last_tick_ns is None:
            self._last_tick_ns = stamp_ns
        if stamp_ns - self._last_tick_ns >= _TICK_NS:
            # Two ticks are enough for a long pause: the first notices it, the second applies the
            # timeout.
            for at in (self._last_tick_ns + _TICK_NS, stamp_ns):
                self._node.now_ns = at
                self._input.tick(at)
            self._last_tick_ns = stamp_ns
        self._node.now_ns = stamp_ns

    def _process(self, stack: FocalStack) -> None:
        self.stacks += 1
        self._on_stack(stack)
        if self._estimator is None:
            return
        job = StackJob(stack, self._settings, 0, time.monotonic())
        try:
            self._processor.process(self._estimator, job)
        except Exception as error:  # as in the node's worker: the next stack may succeed
            self.failure = error
            self._processor.report(error)
