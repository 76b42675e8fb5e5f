# SPDX-License-Identifier: Apache-2.0
"""Publishers of the depth node; only topics with subscribers are computed and published."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
import time
from typing import Any

from rclpy.lifecycle import LifecycleNodeMixin
from std_msgs.msg import Header

from dualfocus_ros.focal_stack import FocalStack, StackFlag
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.nodes.messages import output_messages
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.qos import (
    OUTPUT_QUEUE,
    create_publisher,
    format_qos,
    incompatible_endpoints,
)
from dualfocus_ros.stamps import to_stamp
from dualfocus_ros.topics import OUTPUTS, POINTS, POINTS_DECIMATED, STACK_INFO

_CLOUDS = frozenset({POINTS.name, POINTS_DECIMATED.name})
# Tolerance of the rate limit: with less, jitter would halve a rate that equals the depth's.
_RATE_TOLERANCE_NS = 1e6


@dataclass(frozen=True, eq=False)
class StackJob:
    """A stack for the network.

    :param settings: the parameters at the time the stack was complete.
    :param epoch: the node's epoch at that time; a reset begins a new one.
    :param arrived: arrival of the message that completed the stack, by the steady clock.
    """

    stack: FocalStack
    settings: DepthNodeSettings
    epoch: int
    arrived: float


class OutputPublishers:
    """The publishers of the depth node. ``publish`` is called on the worker's thread."""

    def __init__(self, node: LifecycleNodeMixin) -> None:
        self._node: Any = node
        self._last_cloud_ns: dict[str, int] = {}
        self._publishers = {
            topic.name: create_publisher(
                node.create_lifecycle_publisher,
                _message_class(topic.message_type),
                topic.name,
                OUTPUT_QUEUE,
                None,
            )
            for topic in OUTPUTS
        }

    def destroy(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def descriptions(self) -> list[str]:
        """Return topic, type and quality of service of each publisher."""
        return [
            f'{publisher.topic_name} [{topic.message_type}] {format_qos(publisher.qos_profile)}'
            for topic, publisher in zip(OUTPUTS, self._publishers.values(), strict=False)
        ]

    def incompatible_endpoints(self) -> list[str]:
        return [
            text
            for publisher in self._publishers.values()
            for text in incompatible_endpoints(self._node, publisher)
        ]

    def subscribed_topics(self) -> frozenset[str]:
        return frozenset(
            topic
            for topic, publisher in self._publishers.items()
            if publisher.get_subscription_count() > 0
        )

    def due_topics(self, settings: DepthNodeSettings, stack: FocalStack) -> frozenset[str]:
        """Return the subscribed topics to publish for a stack, with the rate limit of clouds."""
        rates = {
            POINTS.name: settings.points_max_rate,
            POINTS_DECIMATED.name: settings.points_decimated_max_rate,
        }
        newest = _newest_stamp_ns(stack)
        topics = self.subscribed_topics()
        for topic, rate in rates.items():
            last = self._last_cloud_ns.get(topic)
            if rate <= 0.0 or last is None:
                continue
            if 0 <= newest - last < 1e9 / rate - _RATE_TOLERANCE_NS:
                topics -= {topic}
        return topics

    def publish(
        self,
        topics: frozenset[str],
        job: StackJob,
        result: DepthResult,
        began: float,
        inferred: float,
        model: tuple[str, str],
    ) -> float:
        """Publish a result on ``topics``; all messages have the same header.

        :param began: start of the estimate, seconds of the steady clock.
        :param inferred: end of the estimate.
        :param model: name of the model and of its device.
        :returns: latency in ms, from the last plane's stamp to now, by the node's clock.
        """
        stack, settings = job.stack, job.settings
        stamp = output_messages.output_stamp(stack, settings.stamp_policy)
        header = Header(stamp=to_stamp(stamp), frame_id=stack.frame_id)
        for topic in output_messages.BUILDERS:
            if topic in topics:
                message = output_messages.output_message(topic, header, result, settings)
                if message is not None:
                    self._publishers[topic].publish(message)
        newest = _newest_stamp_ns(stack)
        if result.camera is not None:
            self._last_cloud_ns.update(dict.fromkeys(topics & _CLOUDS, newest))
        latency_ms = (self._node.get_clock().now().nanoseconds - newest) * 1e-6
        if STACK_INFO.name in topics:
            info = output_messages.stack_info_message(header, stack)
            info.flags |= int(StackFlag.SATURATED) if result.saturated else 0
            if result.moved(settings.alignment_max_motion):
                info.flags |= int(StackFlag.MOTION)
            info.assemble_ms = (began - job.arrived) * 1e3
            info.inference_ms = (inferred - began) * 1e3
            info.publish_ms = (time.monotonic() - inferred) * 1e3
            info.latency_ms = latency_ms
            info.model, info.device = model
            self._publishers[STACK_INFO.name].publish(info)
        return latency_ms


def requested_outputs(topics: frozenset[str]) -> OutputRequest:
    requests = (topic.request for topic in OUTPUTS if topic.request and topic.name in topics)
    return OutputRequest(**dict.fromkeys(requests, True))


def _message_class(message_type: str) -> Any:
    package, _, name = message_type.split('/')
    return getattr(import_module(f'{package}.msg'), name)


def _newest_stamp_ns(stack: FocalStack) -> int:
    return max(plane.stamp_ns for plane in stack.planes)
