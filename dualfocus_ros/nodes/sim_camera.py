# SPDX-License-Identifier: Apache-2.0
"""The node around the simulated camera: commands in, frames with their truth out."""

from __future__ import annotations

from collections import deque
import math
import threading
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
import torch

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.msg import FocusCommand, FocusState
from dualfocus_ros.nodes.lens_messages import plane_target_from_msg
from dualfocus_ros.nodes.output_messages import camera_message, depth_message, image_message
from dualfocus_ros.nodes.parameter_declaration import declare_parameters
from dualfocus_ros.nodes.parameter_spec import ParameterSpec
from dualfocus_ros.nodes.qos import AdaptiveQosSubscription, create_publisher
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.rgbd_scene import load_rgbd
from dualfocus_ros.simulation.scenes import CAMERA_SCENES, make_scene, make_target
from dualfocus_ros.simulation.simulated_camera import (
    SimulatedCamera,
    SimulatedCameraSettings,
    SimulatedFrame,
)
from dualfocus_ros.stamps import to_stamp

_SENSOR_WIDTH = 7.2e-3
_FRAMES_KEPT = 5
_COMMANDS_WAITING = 20
# A command this much later than a frame was given before the clock jumped back.
_CLOCK_JUMP = 1.0

PARAMETERS = (
    ParameterSpec(
        'scene',
        'table',
        'What the camera sees; target is a flat board to rehearse calibration '
        'with, rgbd takes the files of the rgbd parameters.',
        choices=CAMERA_SCENES,
        read_only=True,
    ),
    ParameterSpec(
        'target.distance',
        1.0,
        'Distance of the scene target in metres.',
        0.05,
        100.0,
        read_only=True,
    ),
    ParameterSpec(
        'seed',
        0,
        'Varies layout, textures and pose of the scene, and the noise.',
        0,
        2**31 - 1,
        read_only=True,
    ),
    ParameterSpec(
        'rgbd.colour', '', 'Colour image of an RGB-D pair, a file path.', read_only=True
    ),
    ParameterSpec(
        'rgbd.depth',
        '',
        'Its depth: a 16-bit image in mm, or a .npy array in metres.',
        read_only=True,
    ),
    ParameterSpec(
        'rgbd.intrinsics',
        (),
        'fx, fy, cx, cy of these files in pixels.',
        -1e5,
        1e5,
        read_only=True,
    ),
    ParameterSpec('width', 640, 'Width of the images in pixels.', 64, 4096, read_only=True),
    ParameterSpec('height', 480, 'Height of the images in pixels.', 64, 4096, read_only=True),
    ParameterSpec('rate', 15.0, 'Frames per second.', 0.1, 240.0, read_only=True),
    ParameterSpec(
        'frame_id',
        'camera_optical_frame',
        'Frame of the images: z forward, x right, y down.',
        read_only=True,
    ),
    ParameterSpec(
        'lens.focal_length', 0.016, 'Focal length in metres.', 1e-4, 1.0, read_only=True
    ),
    ParameterSpec(
        'lens.f_number', 1.4, 'Focal length over aperture diameter.', 0.5, 64.0, read_only=True
    ),
    ParameterSpec(
        'lens.pixel_pitch',
        0.0,
        'Distance between pixels of the published image in metres; '
        '0 for a sensor 7.2 mm wide, or for the focal length in pixels of the RGB-D pair.',
        0.0,
        1e-3,
        read_only=True,
    ),
    ParameterSpec(
        'lens.field_curvature',
        (0.0, 0.0),
        'c2, c4 of the bowed surface that the lens focuses '
        'on, as in the depth node: a pixel is sharp at its inverse depth - c2 r^2 - c4 r^4, r '
        'being its distance from the principal point in half diagonals of the image.',
        -5.0,
        5.0,
        read_only=True,
    ),
    ParameterSpec(
        'focus.near_dioptres', 2.5, 'Nearest focus of the lens in 1/m.', 0.0, 50.0, read_only=True
    ),
    ParameterSpec(
        'focus.far_dioptres',
        0.0,
        'Farthest focus of the lens in 1/m; 0 is infinity.',
        0.0,
        50.0,
        read_only=True,
    ),
    ParameterSpec(
        'settling_time',
        0.12,
        'Seconds until 98 % of a focus step are done.',
        0.0,
        10.0,
        read_only=True,
    ),
    ParameterSpec(
        'latency',
        0.02,
        'Seconds from a focus command to the start of the movement.',
        0.0,
        10.0,
        read_only=True,
    ),
    ParameterSpec(
        'breathing',
        True,
        'Whether the image scale follows the focus, as in a thin lens.',
        read_only=True,
    ),
    ParameterSpec(
        'exposure_breathing',
        False,
        'Whether images darken as the lens extends to focus near, '
        'as in a lens that focuses as a whole: by 1 / (1 + m)^2 at magnification m.',
        read_only=True,
    ),
    ParameterSpec(
        'exposure_jitter',
        0.0,
        'Standard deviation of a random factor on the light of each '
        'frame, in natural logarithms: what automatic exposure leaves.',
        0.0,
        1.0,
        read_only=True,
    ),
    ParameterSpec(
        'noise', 1.0, 'Factor on shot and read noise; 0 for none.', 0.0, 20.0, read_only=True
    ),
    ParameterSpec(
        'jitter_px',
        0.0,
        'Standard deviation in pixels of a random shift of each frame, which '
        'camera_info does not know; the truth moves with the image.',
        0.0,
        20.0,
        read_only=True,
    ),
    ParameterSpec(
        'device',
        'auto',
        'Where defocus is rendered.',
        choices=('auto', 'cpu', 'cuda'),
        read_only=True,
    ),
    ParameterSpec('threads', 2, 'Processor threads for rendering.', 1, 64, read_only=True),
)


class SimCameraNode(Node):
    """Publishes ``image_raw``, ``camera_info``, ``focus_state`` and ``ground_truth/depth``.

    The executor's thread only takes commands and times; one worker renders and publishes.

    :raises ValueError: if a parameter is not allowed, or the scene cannot be made.
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
            self, FocusCommand, 'focus_command', self._on_command, _COMMANDS_WAITING
        )
        self.create_timer(1.0, self._commands.refresh)
        self._commands_due: deque[tuple[float, PlaneTarget]] = deque(maxlen=256)
        self._wake = threading.Condition()
        self._due: int | None = None
        self._closing = False
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._work, name='camera', daemon=True)
        self._worker.start()
        self.create_timer(1.0 / values['rate'], self._on_tick)
        lens = self._camera.lens
        self.get_logger().info(
            f'{values["scene"]} scene, {self._camera.scene.camera.width} x '
            f'{self._camera.scene.camera.height} at {values["rate"]:g} Hz, '
            f'{lens.focal_length * 1e3:g} mm f/{lens.f_number:g}, '
            f'{lens.kappa():.1f} px of blur per dioptre'
        )

    def _publisher(self, kind: type, topic: str) -> Any:
        return create_publisher(
            self.create_publisher, kind, topic, _FRAMES_KEPT, self.get_logger().warning
        )

    def close(self) -> None:
        """Stop the worker; raises the error that ended it, if one did."""
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
        self._commands_due.append((now * 1e-9, plane_target_from_msg(msg, now)))

    def _on_tick(self) -> None:
        with self._wake:
            if self._due is None:  # otherwise the worker is late and this frame is left out
                self._due = self.get_clock().now().nanoseconds
                self._wake.notify()

    def _work(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._closing or self._due is not None)
                    if self._closing:
                        return
                    stamp, self._due = self._due, None
                assert stamp is not None
                self._expose(stamp)
        except BaseException as error:
            self._error = error
            self.context.try_shutdown()

    def _expose(self, stamp: int) -> None:
        time = stamp * 1e-9
        while self._commands_due and not 0.0 < self._commands_due[0][0] - time < _CLOCK_JUMP:
            given, target = self._commands_due.popleft()
            self._camera.command(target, min(given, time))
        frame = self._camera.capture(time)
        header = Header(stamp=to_stamp(stamp), frame_id=self._frame_id)
        self._states.publish(_focus_state(header, frame))
        self._infos.publish(camera_message(header, frame.camera))
        self._images.publish(image_message(header, frame.image, 'rgb8'))
        if self._depths.get_subscription_count() > 0:
            self._depths.publish(depth_message(header, self._camera.depth(frame), '32FC1'))


def _focus_state(header: Header, frame: SimulatedFrame) -> FocusState:
    return FocusState(
        header=header,
        focus_dioptres=frame.lens.dioptres,
        focus_sigma=0.0,
        lens_position=round(frame.lens.dioptres * 1000.0),
        state=int(frame.lens.state),
        sweep_id=frame.lens.sweep_id,
        plane_index=frame.lens.plane_index,
        plane_count=frame.lens.plane_count,
    )


def _make_camera(values: dict[str, Any]) -> SimulatedCamera:
    device = values['device']
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    elif device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device: cuda was asked for, but no CUDA device is available')
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
        pitch = values['lens.pixel_pitch'] or _SENSOR_WIDTH / width
        focal = values['lens.focal_length'] / pitch
        camera = PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
        if values['scene'] == 'target':
            return make_target(values['target.distance'], values['seed'], camera)
        return make_scene(values['scene'], values['seed'], camera)
    for name in ('rgbd.colour', 'rgbd.depth'):
        if not values[name]:
            raise ValueError(f'{name}: scene rgbd needs a file, got nothing')
    intrinsics = values['rgbd.intrinsics']
    if len(intrinsics) != 4:
        raise ValueError(
            f'rgbd.intrinsics: expected the 4 numbers fx, fy, cx, cy, got {list(intrinsics)}'
        )
    return load_rgbd(values['rgbd.colour'], values['rgbd.depth'], intrinsics, (width, height))
