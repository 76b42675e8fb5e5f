#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Node between `focus_command` and your own lens: replace the class Lens.

python3 examples/lens_bridge.py --ros-args -r image_raw:=/camera/image_raw

Moves the lens on each command and publishes the focus of each image. The depth node needs
`focus_source: focus_state`.
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image

from dualfocus_ros.msg import FocusCommand, FocusState


class Lens:
    """Interface of your lens controller."""

    # Time until 98 % of a step are done; measured by `dualfocus calibrate settling`.
    settling_time = 0.03  # s

    def set_focal_power(self, dioptres: float) -> None:
        """Move the lens; this example has none."""


class LensBridge(Node):
    """Forward commands to the lens, and publish its focus with the stamp of each image."""

    def __init__(self, lens: Lens) -> None:
        super().__init__('lens_bridge')
        # Focal power of the lens minus focus in dioptres; measured by `dualfocus calibrate focus`.
        self._offset = self.declare_parameter('offset', 0.0).value
        self._lens = lens
        self._command: FocusCommand | None = None
        self._moved_at = Time(clock_type=self.get_clock().clock_type)
        self._states = self.create_publisher(FocusState, 'focus_state', 50)
        self.create_subscription(FocusCommand, 'focus_command', self._on_command, 50)
        self.create_subscription(Image, 'image_raw', self._on_image, 32)

    def _on_command(self, command: FocusCommand) -> None:
        before, self._command = self._command, command
        # A repeated command must not restart the settling time.
        if before is None or before.focus_dioptres != command.focus_dioptres:
            self._lens.set_focal_power(command.focus_dioptres + self._offset)
            self._moved_at = self.get_clock().now()

    def _on_image(self, image: Image) -> None:
        state = FocusState(header=image.header, focus_dioptres=float('nan'))
        if self._command is not None:
            # Stamps mark the start of the exposure.
            elapsed = (Time.from_msg(image.header.stamp) - self._moved_at).nanoseconds * 1e-9
            settled = elapsed > self._lens.settling_time
            state.state = FocusState.SETTLED if settled else FocusState.MOVING
            state.focus_dioptres = self._command.focus_dioptres
            state.sweep_id = self._command.sweep_id
            state.plane_index = self._command.plane_index
            state.plane_count = self._command.plane_count
        self._states.publish(state)


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init()
    try:
        rclpy.spin(LensBridge(Lens()))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
