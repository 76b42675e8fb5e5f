# SPDX-License-Identifier: Apache-2.0
"""Process a bag: inputs of the depth node in, its outputs into another bag, without DDS."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
import logging
import time
from typing import Any

from sensor_msgs.msg import CameraInfo

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.monitoring.range_monitor import RangeMonitor
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs
from dualfocus_ros.nodes.offline.offline_node import OfflineNode, OfflinePipeline
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.stack_processor import Estimator
from dualfocus_ros.sweep.stage_counter import StageCounts
from dualfocus_ros.topics import DEPTH

logger = logging.getLogger(__name__)


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
    estimator: Estimator,
    outputs: Collection[str],
    *,
    camera: CameraInfo | None = None,
    copy_inputs: bool = False,
    on_message: Callable[[ProcessingSummary], None] = lambda summary: None,
) -> ProcessingSummary:
    """Write the outputs of the depth node for every sweep of a bag.

    KeyboardInterrupt ends the processing early; the outputs so far are complete.

    :param outputs: relative topics to write, such as ``depth/image_rect``.
    :param camera: calibration in place of the bag's.
    :param copy_inputs: write the input messages too.
    :param on_message: called after each input message.
    """
    summary = ProcessingSummary()

    def write(topic: str, message: Any) -> None:
        writer.write_message(topic, message, node.now_ns)
        if topic == depth_topic:
            summary.depths += 1

    node = OfflineNode(inputs.remap, outputs, write)
    depth_topic = node.resolve_topic_name(DEPTH.name)
    range_monitor = RangeMonitor()

    def warn_beyond_range(stack: FocalStack) -> None:
        farthest = float(stack.focus_dioptres.min())
        warning = range_monitor.check(estimator_settings(inputs.settings), farthest)
        if warning is not None:
            logger.warning('%s', warning)

    pipeline = OfflinePipeline(inputs.settings, node, estimator, camera, warn_beyond_range)
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
            summary.sweeps = pipeline.stacks
            summary.seconds = time.monotonic() - began
            on_message(summary)
        pipeline.finish()
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.sweeps = pipeline.stacks
    summary.seconds = time.monotonic() - began
    summary.bag_seconds = 0.0 if first_ns is None else (node.now_ns - first_ns) * 1e-9
    summary.stage_counts = pipeline.stage_counter.snapshot()
    return summary
