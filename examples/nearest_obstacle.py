#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Distance to the nearest obstacle from depth and its standard deviation.

python3 examples/nearest_obstacle.py --ros-args -p certainty:=2.0

Publishes the smallest depth minus `certainty` standard deviations.
"""

from cv_bridge import CvBridge
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float32


class NearestObstacle(Node):
    """Node that pairs depth and sigma by stamp; either of the two may arrive first."""

    def __init__(self) -> None:
        super().__init__('nearest_obstacle')
        self._certainty = self.declare_parameter('certainty', 2.0).value
        self._bridge = CvBridge()
        self._depth: Image | None = None
        self._sigma: Image | None = None
        self._distance = self.create_publisher(Float32, 'nearest_obstacle', 1)
        # The depth node computes sigma only with a subscriber.
        self.create_subscription(Image, 'depth/image_rect', self._on_depth, 2)
        self.create_subscription(Image, 'depth/sigma', self._on_sigma, 2)

    def _on_depth(self, depth: Image) -> None:
        self._depth = depth
        self._measure_pair()

    def _on_sigma(self, sigma: Image) -> None:
        self._sigma = sigma
        self._measure_pair()

    def _measure_pair(self) -> None:
        if self._depth is None or self._sigma is None:
            return
        if self._depth.header.stamp != self._sigma.header.stamp:
            return
        depth = self._bridge.imgmsg_to_cv2(self._depth, '32FC1')  # metres
        margin = self._certainty * self._bridge.imgmsg_to_cv2(self._sigma, '32FC1')
        nearest = depth - margin
        if np.isneginf(depth).any():  # nearer than depth.min
            distance = 0.0
        elif np.isfinite(nearest).any():
            # The 0.1th percentile, not the minimum: single pixels may be wrong.
            distance = float(np.percentile(nearest[np.isfinite(nearest)], 0.1))
        else:
            return
        distance = max(distance, 0.0)
        self.get_logger().info(f'nothing is nearer than {distance:.2f} m')
        self._distance.publish(Float32(data=distance))


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init()
    try:
        rclpy.spin(NearestObstacle())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
