# SPDX-License-Identifier: Apache-2.0
"""Depth node without DDS: its inputs, assembler, estimator and outputs, fed from a bag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
import logging
import math
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dualfocus_ros.bags.reader import BagMessage, BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.msg import FocalStack as FocalStackMsg, StackInfo
from dualfocus_ros.nodes.inputs import INPUTS
from dualfocus_ros.nodes.monitoring.monitors import RangeMonitor
from dualfocus_ros.nodes.monitoring.node_statistics import OutputStatistics
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.publishers import OutputPublishers, StackJob
from dualfocus_ros.nodes.qos import AS_OFFERED
from dualfocus_ros.nodes.stack_processor import StackProcessor
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter, StageCounts
from dualfocus_ros.topics import DEPTH

if TYPE_CHECKING:
    from dualfocus_ros.inference.estimator import DepthEstimator

logger = logging.getLogger(__name__)

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

    def __init__(self, topic: str, qos: Any, listeners: int, sink: Sink) -> None:
        self.topic_name = topic
        self.qos_profile = qos
        self._listeners = listeners
        self._sink = sink

    def get_subscription_count(self) -> int:
        return self._listeners

    def publish(self, message: Any) -> None:
        if isinstance(message, StackInfo):
            # Timings differ from run to run; the same bag gives the same bytes.
            message.assemble_ms = message.inference_ms = message.publish_ms = math.nan
        self._sink(self.topic_name, message)


class _OfflineNode:
    """Interface of a node that the parts of the depth node use, without DDS."""

    def __init__(self, remap: Mapping[str, str], subscribed: Collection[str], sink: Sink) -> None:
        self.now_ns = 0
        self.subscriptions: dict[str, _Subscription] = {}
        self._remap = remap
        self._subscribed = subscribed
        self._sink = sink

    def resolve_topic_name(self, topic: str) -> str:
        absolute = topic if topic.startswith('/') else f'/{topic}'
        return self._remap.get(absolute, absolute)

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns))

    def get_logger(self) -> logging.Logger:
        return logger

    def has_parameter(self, name: str) -> bool:
        """Return true: overrides of the quality of service count as declared."""
        return True

    def get_parameter(self, name: str) -> Any:
        """Return the value without an override."""
        return SimpleNamespace(value=AS_OFFERED)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return []

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any, **_: Any
    ) -> _Subscription:
        self.subscriptions[topic] = _Subscription(kind, callback, qos)
        return self.subscriptions[topic]

    def destroy_subscription(self, subscription: _Subscription) -> None:
        self.subscriptions = {t: s for t, s in self.subscriptions.items() if s is not subscription}

    def create_lifecycle_publisher(self, kind: Any, topic: str, qos: Any, **_: Any) -> _Publisher:
        listeners = int(topic in self._subscribed)
        return _Publisher(self.resolve_topic_name(topic), qos, listeners, self._sink)

    def destroy_lifecycle_publisher(self, publisher: _Publisher) -> None:
        """Do nothing: the publisher holds no resources."""


class OfflinePipeline:
    """Processes messages of a bag like the depth node, one after the other on one thread.

    :param inputs: topics and parameters.
    :param camera: a CameraInfo for all images, in place of those in the bag; or None.
    :param on_stack: called with each stack before the estimate.
    :param estimator: computes depth; None assembles stacks only.
    :param outputs: relative names of the topics to publish.
    :param sink: called with topic and message of each published message.
    """

    def __init__(
        self,
        inputs: BagInputs,
        camera: CameraInfo | None,
        on_stack: Callable[[FocalStack], None],
        estimator: DepthEstimator | None = None,
        outputs: Collection[str] = (),
        sink: Sink = lambda topic, message: None,
    ) -> None:
        self.stage_counter = StageCounter()
        self.stacks = 0
        self._settings = settings = inputs.settings
        self._node: Any = _OfflineNode(inputs.remap, outputs, sink)
        self._estimator = estimator
        self._camera = camera
        self._camera_topic = self._node.resolve_topic_name('camera_info')
        self._on_stack = on_stack
        self._processor = StackProcessor(
            OutputPublishers(self._node), self.stage_counter, OutputStatistics(), lambda: 0
        )
        # No prefetch: the stack follows as soon as its messages are read.
        self._input = INPUTS[settings.input](
            self._node, lambda: settings, self.stage_counter, self._process, lambda plane: None
        )
        self._input.enabled = True
        self._input.start()
        self._last_tick_ns: int | None = None

    @property
    def now_ns(self) -> int:
        """Time of the bag."""
        return int(self._node.now_ns)

    @property
    def topics(self) -> frozenset[str]:
        """The topics of the bag that are used."""
        replaced = () if self._camera is None else (self._camera_topic,)
        return frozenset(self._node.subscriptions).difference(replaced)

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
            self._camera.header = decoded.header
            self._node.subscriptions[self._camera_topic].callback(self._camera)
        subscription.callback(decoded)

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
        try:
            self._processor.process(
                self._estimator, StackJob(stack, self._settings, 0, time.monotonic())
            )
        except Exception as error:  # as in the node's worker: the next stack may succeed
            self._processor.report(error)


@dataclass
class ProcessingSummary:
    """Counts and times of a processed bag.

    :param total: input messages in the bag.
    :param messages: input messages read.
    :param seconds: wall time.
    :param bag_seconds: time between the first and the last message of the bag.
    :param stage_counts: rejections by stage; None until the end.
    """

    total: int = 0
    messages: int = 0
    sweeps: int = 0
    depths: int = 0
    seconds: float = 0.0
    bag_seconds: float = 0.0
    interrupted: bool = False
    stage_counts: StageCounts | None = None

    @property
    def sweeps_per_second(self) -> float:
        """Sweeps per wall second."""
        return self.sweeps / self.seconds if self.seconds > 0.0 else 0.0


def process_bag(
    bag: BagReader,
    writer: BagWriter,
    inputs: BagInputs,
    estimator: DepthEstimator,
    outputs: Collection[str],
    *,
    camera: CameraInfo | None,
    copy_inputs: bool,
    on_message: Callable[[ProcessingSummary], None],
) -> ProcessingSummary:
    """Write the outputs of the depth node for every sweep of a bag.

    KeyboardInterrupt ends the processing early; the outputs so far are complete.

    :param outputs: relative topics to write, such as ``depth/image_rect``.
    :param camera: calibration in place of the bag's, or None.
    :param copy_inputs: write the input messages too.
    :param on_message: called after each input message.
    """
    summary = ProcessingSummary()
    depth_topic = inputs.remap.get(f'/{DEPTH.name}', f'/{DEPTH.name}')
    range_monitor = RangeMonitor()
    settings = estimator_settings(inputs.settings)

    def warn_beyond_range(stack: FocalStack) -> None:
        warning = range_monitor.check(settings, float(stack.focus_dioptres.min()))
        if warning is not None:
            logger.warning('%s', warning)

    def write(topic: str, message: Any) -> None:
        writer.write_message(topic, message, pipeline.now_ns)
        summary.depths += topic == depth_topic

    def update() -> None:
        summary.sweeps = pipeline.stacks
        summary.seconds = time.monotonic() - began

    pipeline = OfflinePipeline(inputs, camera, warn_beyond_range, estimator, outputs, write)
    topics = [name for name in bag.topics if name in pipeline.topics]
    summary.total = sum(bag.topics[name].count for name in topics)
    began = time.monotonic()
    first_ns: int | None = None
    try:
        for message in bag.messages(topics):
            first_ns = message.stamp_ns if first_ns is None else first_ns
            if copy_inputs:
                writer.copy(message, bag.topics[message.topic])
            pipeline.take(message)
            summary.messages += 1
            update()
            on_message(summary)
        pipeline.finish()
    except KeyboardInterrupt:
        summary.interrupted = True
    update()
    summary.bag_seconds = 0.0 if first_ns is None else (pipeline.now_ns - first_ns) * 1e-9
    summary.stage_counts = pipeline.stage_counter.snapshot()
    return summary
