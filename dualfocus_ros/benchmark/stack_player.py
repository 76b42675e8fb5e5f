# SPDX-License-Identifier: Apache-2.0
"""Camera of the benchmark: publishes the planes of one stack repeatedly.

``python -m dualfocus_ros.benchmark.stack_player STACK RATE LOG``: rate in images per second; each
line of the log is the stamp of a published image in nanoseconds.
"""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any

from dualfocus_ros.nodes.node_runner import run

QUEUE = 5


def _create(stack_file: Path, rate: float, log: Path) -> Any:
    from rclpy.node import Node
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from dualfocus_ros.benchmark.benchmark_stacks import read_stack
    from dualfocus_ros.msg import FocusState
    from dualfocus_ros.nodes.messages.output_messages import camera_message, image_message
    from dualfocus_ros.nodes.qos import reliable_qos
    from dualfocus_ros.stamps import to_ns

    class Player(Node):
        """Publishes ``image_raw``, ``camera_info`` and ``focus_state``."""

        def __init__(self) -> None:
            super().__init__('benchmark_camera')
            stack = read_stack(stack_file)
            self._planes = [
                (
                    image_message(Header(frame_id=stack.frame_id), plane.image, 'rgb8'),
                    camera_message(Header(frame_id=stack.frame_id), plane.camera),
                    plane.focus_dioptres,
                )
                for plane in stack.planes
                if plane.camera is not None
            ]
            self._images = self.create_publisher(Image, 'image_raw', reliable_qos(QUEUE))
            self._infos = self.create_publisher(CameraInfo, 'camera_info', reliable_qos(QUEUE))
            self._states = self.create_publisher(FocusState, 'focus_state', reliable_qos(QUEUE))
            self._count = 0
            self._log = log.open('w', buffering=1)
            self.create_timer(1.0 / rate, self._publish)

        def _publish(self) -> None:
            # Wait for a subscriber: images sent before discovery would count as lost.
            if not self._count and self._images.get_subscription_count() == 0:
                return
            sweep, index = divmod(self._count, len(self._planes))
            self._count += 1
            image, info, focus = self._planes[index]
            stamp = self.get_clock().now()
            image.header.stamp = info.header.stamp = stamp.to_msg()
            state = FocusState(
                header=image.header,
                focus_dioptres=focus,
                focus_sigma=0.0,
                state=FocusState.SETTLED,
                sweep_id=sweep + 1,
                plane_index=index,
                plane_count=len(self._planes),
            )
            self._infos.publish(info)
            self._states.publish(state)
            self._images.publish(image)
            self._log.write(f'{to_ns(image.header.stamp)}\n')

        def close(self) -> None:
            """Close the log."""
            self._log.close()

    return Player()


if __name__ == '__main__':
    _stack, _rate, _log = sys.argv[1:4]
    sys.exit(run(lambda: _create(Path(_stack), float(_rate), Path(_log)), []))
