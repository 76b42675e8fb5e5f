# SPDX-License-Identifier: Apache-2.0
"""What publishing costs without anybody on the other end: messages made and serialised."""

from __future__ import annotations

from importlib.util import find_spec
import time

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import DepthResult


class MessageTimer:
    """Makes the depth node's messages of a result; needs ROS, and does nothing without.

    What DDS adds is measured between processes, see :mod:`dualfocus_ros.benchmark.node_latency`.
    """

    def __init__(self) -> None:
        self._there = find_spec('rclpy') is not None and find_spec('sensor_msgs') is not None

    def pack(self, stack: FocalStack, result: DepthResult) -> dict[str, float]:
        """Return the milliseconds of ``pack`` (building messages) and ``serialise``."""
        if not self._there:
            return {}
        from rclpy.serialization import serialize_message
        from std_msgs.msg import Header

        from dualfocus_ros.nodes import output_messages
        from dualfocus_ros.stamps import to_stamp

        began = time.perf_counter()
        stamp = output_messages.output_stamp(stack, 'reference')
        header = Header(stamp=to_stamp(stamp), frame_id=stack.frame_id)
        made = [output_messages.depth_message(header, result.depth, '32FC1')]
        for values, encoding in (
            (result.sigma, '32FC1'),
            (result.confidence, 'mono8'),
            (result.all_in_focus, 'rgb8'),
        ):
            if values is not None:
                made.append(output_messages.image_message(header, values, encoding))
        for points in (result.points, result.points_decimated):
            if points is not None:
                made.append(output_messages.cloud_message(header, points, True))
        if result.camera is not None:
            made.append(output_messages.camera_message(header, result.camera))
        packed = time.perf_counter()
        for message in made:
            serialize_message(message)
        ended = time.perf_counter()
        return {'pack': (packed - began) * 1e3, 'serialise': (ended - packed) * 1e3}
