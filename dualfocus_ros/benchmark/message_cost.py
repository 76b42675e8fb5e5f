# SPDX-License-Identifier: Apache-2.0
"""Cost of publishing without subscribers: building and serialising messages."""

from __future__ import annotations

from importlib.util import find_spec
import time

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import DepthResult


class MessageTimer:
    """Times the messages that the depth node makes of a result; measures nothing without ROS.

    DDS is measured between processes, see :mod:`dualfocus_ros.benchmark.node_latency`.
    """

    def __init__(self) -> None:
        self._has_ros = find_spec('rclpy') is not None and find_spec('sensor_msgs') is not None

    def measure(self, stack: FocalStack, result: DepthResult) -> dict[str, float]:
        """Return the milliseconds of ``pack`` (building messages) and ``serialise``."""
        if not self._has_ros:
            return {}
        from rclpy.serialization import serialize_message
        from std_msgs.msg import Header

        from dualfocus_ros.nodes.messages import output_messages
        from dualfocus_ros.stamps import to_stamp

        start = time.perf_counter()
        stamp = output_messages.output_stamp(stack, 'reference')
        header = Header(stamp=to_stamp(stamp), frame_id=stack.frame_id)
        messages = [output_messages.depth_message(header, result.depth, '32FC1')]
        for values, encoding in (
            (result.sigma, '32FC1'),
            (result.confidence, 'mono8'),
            (result.all_in_focus, 'rgb8'),
        ):
            if values is not None:
                messages.append(output_messages.image_message(header, values, encoding))
        for points in (result.points, result.points_decimated):
            if points is not None:
                messages.append(output_messages.cloud_message(header, points, True))
        if result.camera is not None:
            messages.append(output_messages.camera_message(header, result.camera))
        packed = time.perf_counter()
        for message in messages:
            serialize_message(message)
        end = time.perf_counter()
        return {'pack': (packed - start) * 1e3, 'serialise': (end - packed) * 1e3}
