# SPDX-License-Identifier: Apache-2.0
"""The depth node's own inputs, assembler, estimator and outputs, fed from a bag instead of DDS.

The classes of ``nodes/`` are used as they are; what they get is not a node of rclpy but one that
hands over messages of a bag and takes what would be published. No context is made and nothing
joins a DDS domain.
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
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.inputs import INPUTS
from dualfocus_ros.nodes.output_statistics import OutputStatistics
from dualfocus_ros.nodes.outputs import OutputPublishers
from dualfocus_ros.nodes.qos import AS_OFFERED
from dualfocus_ros.nodes.stack_processor import Estimator, StackJob, StackProcessor
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.topics import STACK_INFO

# The node looks for sweeps that have ended this often (its timer is of 0.1 s too).
_TICK_NS = 100_000_000
_CALIBRATED = (Image, CompressedImage, FocalStackMsg)
Sink = Callable[[str, Any], None]


@dataclass(frozen=True, eq=False)
class _Subscription:
    kind: Any
    callback: Callable[[Any], None]
    qos_profile: Any


class _Publisher:
    """Hands what is published to the sink; somebody listens if the topic is wanted."""

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
            # How long it took differs from run to run; the same bag shall give the same bytes.
            message.assemble_ms = message.inference_ms = message.publish_ms = math.nan
        self._sink(self.topic_name, message)


class OfflineNode:
    """What the classes of ``nodes/`` ask of a node, without DDS.

    :param remap: names of topics in the bag by names of the node, both absolute.
    :param wanted: the outputs, by the node's relative names, that somebody listens to.
    :param sink: takes topic and message of what is published.
    """

    def __init__(self, remap: Mapping[str, str], wanted: Collection[str], sink: Sink) -> None:
        self.now_ns = 0
        self.subscriptions: dict[str, _Subscription] = {}
        self._remap = dict(remap)
        self._wanted = frozenset(wanted)
        self._sink = sink

    def resolve_topic_name(self, topic: str) -> str:
        """Return the name of a topic in the bag."""
        absolute = topic if topic.startswith('/') else f'/{topic}'
        return self._remap.get(absolute, absolute)

    def get_clock(self) -> Any:
        """Return a clock that shows the time in the bag."""
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns))

    def get_logger(self) -> logging.Logger:
        """Return where to tell of what is remarkable."""
        return logging.getLogger(__name__)

    def has_parameter(self, name: str) -> bool:
        """Return true: quality of service is as offered, and means nothing here."""
        return True

    def get_parameter(self, name: str) -> Any:
        """Return the value that means: no override."""
        return SimpleNamespace(value=AS_OFFERED)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        """Return nothing: nobody publishes."""
        return []

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any, **_: Any
    ) -> _Subscription:
        """Note who takes a topic."""
        self.subscriptions[topic] = _Subscription(kind, callback, qos)
        return self.subscriptions[topic]

    def destroy_subscription(self, subscription: _Subscription) -> None:
        """Forget it."""
        for topic, known in list(self.subscriptions.items()):
            if known is subscription:
                del self.subscriptions[topic]

    def create_lifecycle_publisher(self, kind: Any, topic: str, qos: Any, **_: Any) -> _Publisher:
        """Return a publisher to the sink."""
        listeners = int(topic in self._wanted)
        return _Publisher(topic, self.resolve_topic_name(topic), qos, listeners, self._sink)

    def destroy_lifecycle_publisher(self, publisher: _Publisher) -> None:
        """Do nothing: there is nothing to take down."""


class OfflinePipeline:
    """Messages of a bag in, messages of the depth node out, one after the other on one thread.

    :param settings: the parameters.
    :param node: where messages come from and go to.
    :param estimator: computes depth; None only assembles stacks.
    :param camera: a CameraInfo for all images, instead of what the bag has.
    :param on_stack: told about each stack before it is computed.
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
            # The stack follows as soon as its messages are read: nothing is gained by haste.
            lambda plane: None,
        )
        self._input.enabled = True
        self._input.start()
        self._last_tick_ns: int | None = None

    @property
    def topics(self) -> frozenset[str]:
        """The topics of the bag that are taken."""
        replaced = set()
        if self._camera is not None:
            replaced.add(self._node.resolve_topic_name('camera_info'))
        return frozenset(self._node.subscriptions) - replaced

    def take(self, message: BagMessage) -> None:
        """Take the next message, in the order of the bag's clock."""
        self._tick(message.stamp_ns)
        subscription = self._node.subscriptions[message.topic]
        try:
            decoded = deserialize_message(message.data, subscription.kind)
        except Exception as error:  # what rmw raises differs from one implementation to another
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
        """Let the calibration that the user gave come with every image, as from a driver."""
        assert self._camera is not None
        self._camera.header = header
        topic = self._node.resolve_topic_name('camera_info')
        self._node.subscriptions[topic].callback(self._camera)

    def finish(self) -> None:
        """End the sweep in progress as the node does when the camera stops."""
        self._input.tick(self._node.now_ns)
        self._input.tick(self._node.now_ns + round(self._settings.stack_timeout * 1e9) + 1)

    def _tick(self, stamp_ns: int) -> None:
        """Call the node's timer for the time up to ``stamp_ns``."""
        if self._last_tick_ns is None:
            self._last_tick_ns = stamp_ns
        if stamp_ns - self._last_tick_ns >= _TICK_NS:
            # A long pause needs no more than two calls: one that sees that nothing comes, and
            # one that finds it too long.
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
        except Exception as error:  # as the node's worker does: the next stack may be well
            self.failure = error
            self._processor.report(error)
