# SPDX-License-Identifier: Apache-2.0
"""Images and bags of the simulated camera in front of a flat calibration target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.calibration.target_images import FocusImage
from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.scenes import make_target
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings
from stack_bag import make_camera_info, make_header, make_image

FRAME = 'camera_optical_frame'
SETTLED, MOVING = 1, 2
CODES_PER_DIOPTRE = 1000  # lens positions, as sim_camera_node reports them


def target_camera(width: int, distance: float, **settings: float) -> SimulatedCamera:
    """Return the 16 mm f/1.4 camera of the demo with the target at ``distance`` metres."""
    lens, height = simulated_lens(width), 3 * width // 4
    view = PinholeCamera.centred(width, height, lens.focal_length_px(0.0))
    return SimulatedCamera(
        make_target(distance, 0, view),
        lens,
        SimulatedCameraSettings(**settings),  # type: ignore[arg-type]
    )


def plane_camera(
    width: int, inverse_depth: float, slant: tuple[float, float] = (0.0, 0.0), **settings: Any
) -> SimulatedCamera:
    """Return the same camera in front of a plane with fine texture.

    :param inverse_depth: inverse depth in the image centre, in 1/m.
    :param slant: change of the inverse depth to the right and downwards, in 1/m per half diagonal.
    """
    lens, height = simulated_lens(width), 3 * width // 4
    view = PinholeCamera.centred(width, height, lens.focal_length_px(0.0))
    y, x = (np.indices((height, width)) - 0.5 * np.array([[[height - 1]], [[width - 1]]])) / (
        0.625 * width
    )
    depth = 1.0 / (inverse_depth + slant[0] * x + slant[1] * y)
    texture = np.random.default_rng(0).uniform(0.2, 0.8, (1, height, width))
    scene = SceneImage(
        np.repeat(texture, 3, axis=0).astype(np.float32), depth.astype(np.float32), view
    )
    return SimulatedCamera(scene, lens, SimulatedCameraSettings(**settings))


def settled_images(
    camera: SimulatedCamera, focus: Iterable[float], count: int = 1
) -> list[FocusImage]:
    """Return ``count`` images of the settled lens at each focus."""
    taken, time = [], 1000.0
    for dioptres in focus:
        camera.command(PlaneTarget(float(dioptres)), time)
        for _ in range(count):
            time += 5.0
            frame = camera.capture(time)
            taken.append(
                FocusImage(
                    frame.image,
                    frame.lens.dioptres,
                    frame.lens.dioptres * CODES_PER_DIOPTRE,
                    round(time * 1e9),
                    frame.lens.moving,
                )
            )
    return taken


class SweepBag:
    """Writer of a bag of the camera; a context manager.

    :param reports: ``true``: true FocusState and commands; ``none``: commands only;
        ``camera_ros``: no commands, and metadata that repeat them.
    """

    def __init__(self, path: Path, reports: str = 'true') -> None:
        self._bag = BagWriter(path)
        self._reports = reports
        self._commanded = 0.0

    def __enter__(self) -> SweepBag:
        self._bag.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._bag.__exit__(*failure)  # type: ignore[arg-type]

    def frame(self, camera: SimulatedCamera, time: float) -> None:
        """Capture and write a frame."""
        types, stamp = typestore(), round(time * 1e9)
        taken = camera.capture(time)
        header = make_header(types, stamp, FRAME)
        self._bag.write_message('/image_raw', make_image(types, header, taken.image), stamp)
        info = make_camera_info(types, header, taken.camera)
        self._bag.write_message('/camera_info', info, stamp)
        if self._reports == 'none':
            return
        if self._reports == 'camera_ros':
            value = types.types['diagnostic_msgs/msg/KeyValue'](
                key='LensPosition', value=f'{self._commanded:.4f}'
            )
            status = types.types['diagnostic_msgs/msg/DiagnosticStatus'](
                level=0, name='', message='', hardware_id='camera', values=[value]
            )
            metadata = types.types['diagnostic_msgs/msg/DiagnosticArray'](
                header=header, status=[status]
            )
            self._bag.write_message('/metadata', metadata, stamp)
            return
        state = types.types['dualfocus_ros/msg/FocusState'](
            header=header,
            focus_dioptres=taken.lens.dioptres,
            focus_sigma=0.0,
            lens_position=round(taken.lens.dioptres * CODES_PER_DIOPTRE),
            state=MOVING if taken.lens.moving else SETTLED,
            sweep_id=0,
            plane_index=0,
            plane_count=0,
        )
        self._bag.write_message('/focus_state', state, stamp)

    def command(
        self, camera: SimulatedCamera, dioptres: float, time: float, off: float = 0.0
    ) -> None:
        """Write a command and send the lens to its focus plus an error of ``off`` dioptres."""
        types, stamp = typestore(), round(time * 1e9)
        camera.command(PlaneTarget(dioptres + off), time)
        self._commanded = dioptres
        if self._reports == 'camera_ros':
            return
        message = types.types['dualfocus_ros/msg/FocusCommand'](
            header=make_header(types, stamp, ''),
            focus_dioptres=dioptres,
            sweep_id=0,
            plane_index=0,
            plane_count=0,
        )
        self._bag.write_message('/focus_command', message, stamp)


def write_settled_bag(
    path: Path, camera: SimulatedCamera, focus: Sequence[float], count: int = 1
) -> Path:
    """Write a bag with one image during the motion to each focus, then ``count`` at rest."""
    with SweepBag(path) as bag:
        time = 1000.0
        for dioptres in focus:
            bag.command(camera, float(dioptres), time)
            bag.frame(camera, time + 0.05)
            for number in range(count):
                bag.frame(camera, time + 2.0 + 0.1 * number)
            time += 5.0
    return path


def write_sweep_bag(
    path: Path,
    camera: SimulatedCamera,
    planes: Sequence[float],
    *,
    sweeps: int = 4,
    rate: float = 30.0,
    dwell: float = 0.5,
    hysteresis: float = 0.0,
    reports: str = 'true',
) -> Path:
    """Write a bag of sweeps up and down at a frame rate.

    :param dwell: seconds at each plane.
    :param hysteresis: overshoot in dioptres of motion towards near focus.
    """
    rng = np.random.default_rng(1)
    targets = [float(q) for n in range(sweeps) for q in (planes if n % 2 == 0 else planes[::-1])]
    frame, previous = 0, targets[0]
    with SweepBag(path, reports) as bag:
        for target in targets:
            # The command is at a random time between two frames.
            at = 1000.0 + (frame + rng.uniform(0.05, 0.95)) / rate
            bag.frame(camera, 1000.0 + frame / rate)
            bag.command(camera, target, at, hysteresis if target > previous else 0.0)
            previous = target
            for _ in range(round(dwell * rate)):
                frame += 1
                bag.frame(camera, 1000.0 + frame / rate)
            frame += 1
    return path
