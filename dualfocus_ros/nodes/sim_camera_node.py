# SPDX-License-Identifier: Apache-2.0
"""``sim_camera_node``: a simulated camera whose focus follows ``focus_command``."""

from __future__ import annotations

from collections import deque
import math
import threading
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
import torch

from dualfocus_ros.camera.lens_presets import SIMULATED_SENSOR_WIDTH
from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.msg import FocusCommand, FocusState
from dualfocus_ros.nodes.messages.lens_messages import plane_target_from_msg
from dualfocus_ros.nodes.messages.output_messages import (
    camera_message,
    depth_message,
    image_message,
)
from dualfocus_ros.nodes.node_runner import run_node
from dualfocus_ros.nodes.parameters.parameter_declaration import declare_parameters
from dualfocus_ros.nodes.parameters.sim_parameters import PARAMETERS
from dualfocus_ros.nodes.qos import AdaptiveQosSubscription, create_publisher
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.rgbd_scene import load_rgbd
from dualfocus_ros.simulation.scenes import make_scene, make_target
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings
from dualfocus_ros.stamps import to_stamp

_IMAGE_QUEUE = 5
_COMMAND_QUEUE = 20
# A command this many seconds newer than a frame precedes a jump of the clock.
_CLOCK_JUMP = 1.0


class SimCameraNode(Node):
    """Node that publishes simulated images, ``focus_state`` and ``ground_truth/depth``.

    The executor thread receives commands and schedules frames; a worker thread renders them.

    :raises ValueError: if a parameter is not allowed, or the scene cannot be created.
    """

    def __init__(self) -> None:
        super().__init__('sim_camera')
        values = declare_parameters(self, PARAMETERS)
        torch.set_num_threads(values['threads'])
        self._frame_id: str = values['frame_id']
        self._camera = _make_camera(values)
        self._images = self._publisher(Image, 'image_raw')
        self._infos = self._publisher(CameraInfo, 'camera_info')
        self._states = self._publisher(FocusState, 'focus_state')
        self._depths = self._publisher(Image, 'ground_truth/depth')
        self._commands = AdaptiveQosSubscription(
            self, FocusCommand, 'focus_command', self._on_command, _COMMAND_QUEUE
        )
        self.create_timer(1.0, self._commands.refresh)
        self._pending_commands: deque[tuple[float, PlaneTarget]] = deque(maxlen=256)
        self._wake = threading.Condition()
        self._frame_due: int | None = None
        self._closing = False
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._work, name='camera', daemon=True)
        self._worker.start()
        self.create_timer(1.0 / values['rate'], self._on_tick)
        lens, camera = self._camera.lens, self._camera.scene.camera
        self.get_logger().info(
            f'{values["scene"]} scene, {camera.width} x {camera.height} at {values["rate"]:g} Hz, '
            f'{lens.focal_length * 1e3:g} mm f/{lens.f_number:g}, '
            f'{lens.kappa():.1f} px of blur per dioptre'
        )

    def _publisher(self, kind: type, topic: str) -> Any:
        return create_publisher(
            self.create_publisher, kind, topic, _IMAGE_QUEUE, self.get_logger().warning
        )

    def close(self) -> None:
        """Stop the worker; raise the error that ended it, if any."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._worker.join()
        if self._error is not None:
            raise self._error

    def _on_command(self, msg: FocusCommand) -> None:
        if not math.isfinite(msg.focus_dioptres):
            self.get_logger().warning(
                f'ignored a focus command of {msg.focus_dioptres} dioptres',
                throttle_duration_sec=5,
            )
            return
        now = self.get_clock().now().nanoseconds
        self._pending_commands.append((now * 1e-9, plane_target_from_msg(msg, now)))

    def _on_tick(self) -> None:
        with self._wake:
            if self._frame_due is None:  # otherwise the worker is late: skip this frame
                self._frame_due = self.get_clock().now().nanoseconds
                self._wake.notify()

    def _work(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._closing or self._frame_due is not None)
                    if self._closing:
                        return
                    stamp, self._frame_due = self._frame_due, None
                assert stamp is not None
                self._expose(stamp)
        except BaseException as error:
            self._error = error
            self.context.try_shutdown()

    def _expose(self, stamp: int) -> None:
        time = stamp * 1e-9
        pending = self._pending_commands
        while pending and not 0.0 < pending[0][0] - time < _CLOCK_JUMP:
            issued, target = pending.popleft()
            self._camera.command(target, min(issued, time))
        frame = self._camera.capture(time)
        header = Header(stamp=to_stamp(stamp), frame_id=self._frame_id)
        self._states.publish(_focus_state(header, frame.lens))
        self._infos.publish(camera_message(header, frame.camera))
        self._images.publish(image_message(header, frame.image, 'rgb8'))
        if self._depths.get_subscription_count() > 0:
            self._depths.publish(depth_message(header, self._camera.depth(frame), '32FC1'))


def _focus_state(header: Header, lens: LensReading) -> FocusState:
    return FocusState(
        header=header,
        focus_dioptres=lens.dioptres,
        focus_sigma=0.0,
        lens_position=round(lens.dioptres * 1000.0),
        state=int(lens.state),
        sweep_id=lens.sweep_id,
        plane_index=lens.plane_index,
        plane_count=lens.plane_count,
    )


def _make_camera(values: dict[str, Any]) -> SimulatedCamera:
    device = values['device']
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    elif device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device: got cuda, but no CUDA device is available: set cpu or auto')
    scene = _make_scene(values)
    pitch = values['lens.pixel_pitch'] or values['lens.focal_length'] / scene.camera.fx
    lens = Lens(values['lens.focal_length'], values['lens.f_number'], pitch)
    settings = SimulatedCameraSettings(
        far_limit=values['focus.far_dioptres'],
        near_limit=values['focus.near_dioptres'],
        settling_time=values['settling_time'],
        latency=values['latency'],
        field_curvature=values['lens.field_curvature'],
        breathing=values['breathing'],
        exposure_breathing=values['exposure_breathing'],
        exposure_jitter=values['exposure_jitter'],
        noise=values['noise'],
        jitter=values['jitter_px'],
        seed=values['seed'],
        device=device,
    )
    return SimulatedCamera(scene, lens, settings)


def _make_scene(values: dict[str, Any]) -> SceneImage:
    width, height = values['width'], values['height']
    if values['scene'] != 'rgbd':
        pitch = values['lens.pixel_pitch'] or SIMULATED_SENSOR_WIDTH / width
        focal = values['lens.focal_length'] / pitch
        camera = PinholeCamera.centred(width, height, focal)
        if values['scene'] == 'target':
            return make_target(values['target.distance'], values['seed'], camera)
        return make_scene(values['scene'], values['seed'], camera)
    for name in ('rgbd.colour', 'rgbd.depth'):
        if not values[name]:
            raise ValueError(f'{name}: scene rgbd needs a file, got an empty path')
    intrinsics = values['rgbd.intrinsics']
    if len(intrinsics) != 4:
        raise ValueError(
            f'rgbd.intrinsics: expected the 4 numbers fx, fy, cx, cy, got {list(intrinsics)}'
        )
    return load_rgbd(values['rgbd.colour'], values['rgbd.depth'], intrinsics, (width, height))


def create_node() -> SimCameraNode:
    """Return the node of the executable ``sim_camera_node``."""
    return SimCameraNode()


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; return the exit code."""
    return run_node('sim_camera_node', args)
