# SPDX-License-Identifier: Apache-2.0
"""What the depth node publishes, and only what somebody listens to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNodeMixin
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dualfocus_ros.focal_stack import FocalStack, StackFlag
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.msg import StackInfo
from dualfocus_ros.nodes import output_messages
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.input_messages import to_stamp
from dualfocus_ros.nodes.qos import create_publisher, format_qos, incompatible_endpoints, type_name

DEPTH = 'depth/image_rect'
DEPTH_CAMERA = 'depth/camera_info'
POINTS = 'depth/points'
POINTS_DECIMATED = 'depth/points_decimated'
SIGMA = 'depth/sigma'
CONFIDENCE = 'depth/confidence'
RGB = 'rgb/image_rect'
RGB_CAMERA = 'rgb/camera_info'
STACK_INFO = 'stack_info'

TOPICS = {
    DEPTH: Image,
    DEPTH_CAMERA: CameraInfo,
    POINTS: PointCloud2,
    POINTS_DECIMATED: PointCloud2,
    SIGMA: Image,
    CONFIDENCE: Image,
    RGB: Image,
    RGB_CAMERA: CameraInfo,
    STACK_INFO: StackInfo,
}
QUEUE = 2


@dataclass(frozen=True)
class StackTimings:
    """When things happened to one stack, by the steady clock, in seconds.

    :param arrived: the message that completed it.
    :param began: the worker took it.
    :param inferred: the estimator had finished.
    """

    arrived: float
    began: float
    inferred: float


class OutputPublishers:
    """The publishers of the depth node. ``publish`` is for the worker's thread."""

    def __init__(self, node: LifecycleNodeMixin) -> None:
        self._node: Any = node
        self._last_cloud_ns: dict[str, int] = {}
        self._publishers = {
            topic: create_publisher(node.create_lifecycle_publisher, kind, topic, QUEUE, None)
            for topic, kind in TOPICS.items()
        }

    def destroy(self) -> None:
        """Remove all publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def descriptions(self) -> list[str]:
        """Return topic, type and quality of service of each publisher."""
        return [
            f'{publisher.topic_name} [{type_name(kind)}] {format_qos(publisher.qos_profile)}'
            for publisher, kind in zip(self._publishers.values(), TOPICS.values(), strict=True)
        ]

    def incompatible_endpoints(self) -> list[str]:
        """Return in words which subscriptions can never match."""
        return [
            text
            for publisher in self._publishers.values()
            for text in incompatible_endpoints(self._node, publisher)
        ]

    def subscribed_topics(self) -> frozenset[str]:
        """Return the topics that have a subscription now."""
        return frozenset(
            topic
            for topic, publisher in self._publishers.items()
            if publisher.get_subscription_count() > 0
        )

    def due(self, settings: DepthNodeSettings, stack: FocalStack) -> frozenset[str]:
        """Return the topics to publish for a stack: those listened to, clouds at their rate."""
        rates = {
            POINTS: settings.points_max_rate,
            POINTS_DECIMATED: settings.points_decimated_max_rate,
        }
        newest = _newest_ns(stack)
        topics = self.subscribed_topics()
        for topic, rate in rates.items():
            last = self._last_cloud_ns.get(topic)
            # A millisecond of slack, or jitter would halve a rate that equals the depth's.
            if rate > 0.0 and last is not None and 0 <= newest - last < 1e9 / rate - 1e6:
                topics -= {topic}
        return topics

    def publish(
        self,
        topics: frozenset[str],
        stack: FocalStack,
        result: DepthResult,
        settings: DepthNodeSettings,
        timings: StackTimings,
        model: tuple[str, str],
    ) -> float:
        """Publish a result on ``topics``; all messages have the same header.

        :param model: name of the model and of its device.
        :returns: milliseconds from the last plane's stamp to now, by the node's clock.
        """
        stamp = output_messages.output_stamp(stack, settings.stamp_policy)
        header = Header(stamp=to_stamp(stamp), frame_id=stack.frame_id)
        for topic, make in _message_builders(header, result, settings).items():
            if topic in topics:
                message = make()
                if message is not None:
                    self._publishers[topic].publish(message)
        newest = _newest_ns(stack)
        if result.camera is not None:
            self._last_cloud_ns.update(dict.fromkeys(topics & {POINTS, POINTS_DECIMATED}, newest))
        latency_ms = (self._node.get_clock().now().nanoseconds - newest) * 1e-6
        if STACK_INFO in topics:
            info = output_messages.stack_info_message(header, stack)
            info.flags |= int(StackFlag.SATURATED) if result.saturated else 0
            if result.moved(settings.alignment_max_motion):
                info.flags |= int(StackFlag.MOTION)
            info.assemble_ms = (timings.began - timings.arrived) * 1e3
            info.inference_ms = (timings.inferred - timings.began) * 1e3
            info.publish_ms = (time.monotonic() - timings.inferred) * 1e3
            info.latency_ms = latency_ms
            info.model, info.device = model
            self._publishers[STACK_INFO].publish(info)
        return latency_ms


def requested_outputs(topics: frozenset[str]) -> OutputRequest:
    """Return what the estimator must compute for these topics."""
    return OutputRequest(
        sigma=SIGMA in topics,
        confidence=CONFIDENCE in topics,
        all_in_focus=RGB in topics,
        points=POINTS in topics,
        points_decimated=POINTS_DECIMATED in topics,
    )


def _newest_ns(stack: FocalStack) -> int:
    return max(plane.stamp_ns for plane in stack.planes)


def _message_builders(
    header: Header, result: DepthResult, settings: DepthNodeSettings
) -> dict[str, Callable[[], Any]]:
    """Return how to make the message of each topic; None where the result does not have it."""

    def image(values: np.ndarray | None, encoding: str) -> Image | None:
        return None if values is None else output_messages.image_message(header, values, encoding)

    def camera() -> CameraInfo | None:
        return (
            None
            if result.camera is None
            else output_messages.camera_message(header, result.camera)
        )

    def cloud(points: np.ndarray | None) -> PointCloud2 | None:
        if points is None:
            return None
        return output_messages.cloud_message(header, points, settings.points_color)

    return {
        DEPTH: lambda: output_messages.depth_message(
            header, result.depth, settings.depth_encoding
        ),
        DEPTH_CAMERA: camera,
        POINTS: lambda: cloud(result.points),
        POINTS_DECIMATED: lambda: cloud(result.points_decimated),
        SIGMA: lambda: image(result.sigma, '32FC1'),
        CONFIDENCE: lambda: image(result.confidence, 'mono8'),
        RGB: lambda: image(result.all_in_focus, 'rgb8'),
        RGB_CAMERA: camera,
    }
