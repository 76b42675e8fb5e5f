# SPDX-License-Identifier: Apache-2.0
"""Write a focal stack as a bag, as a camera with focus control would publish it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import Plane

SETTLED = 1  # FocusState.SETTLED
CAMERA = PinholeCamera(64, 48, 60.0, 61.0, 31.5, 23.5)


def random_planes(count: int = 3, colour: bool = True) -> list[Plane]:
    """Return planes of noise with cameras that breathe."""
    rng = np.random.default_rng(1)
    shape = (48, 64, 3) if colour else (48, 64)
    return [
        Plane(
            rng.integers(0, 255, shape, dtype=np.uint8),
            0.5 + n,
            camera=CAMERA.magnified(1 + n / 100),
        )
        for n in range(count)
    ]


def write_stack_bag(
    path: Path | str,
    planes: Sequence[Plane],
    *,
    prefix: str = '',
    frame_id: str = 'camera_optical_frame',
    sweeps: int = 1,
    start_ns: int = 1_000_000_000,
    period_ns: int = 100_000_000,
) -> Path:
    """Write ``image_raw``, ``camera_info`` and ``focus_state`` of one or more equal sweeps.

    :param planes: images with focus and camera, in the order of the sweep.
    :param prefix: namespace of the topics, such as ``camera``; empty for the root.
    :param sweeps: number of repetitions, with new stamps and sweep numbers.
    :param period_ns: time between frames.
    :raises ValueError: if a plane has no camera.
    """
    base = f'/{prefix.strip("/")}' if prefix.strip('/') else ''
    with BagWriter(path) as bag:
        types = typestore()
        for frame in range(sweeps * len(planes)):
            sweep, index = divmod(frame, len(planes))
            plane = planes[index]
            if plane.camera is None:
                raise ValueError(f'plane {index} has no camera: camera_info needs its intrinsics')
            stamp = start_ns + frame * period_ns
            header = make_header(types, stamp, frame_id)
            bag.write_message(f'{base}/image_raw', make_image(types, header, plane.image), stamp)
            bag.write_message(
                f'{base}/camera_info', make_camera_info(types, header, plane.camera), stamp
            )
            state = types.types['dualfocus_ros/msg/FocusState'](
                header=header,
                focus_dioptres=plane.focus_dioptres,
                focus_sigma=float('nan'),
                lens_position=0,
                state=SETTLED,
                sweep_id=sweep,
                plane_index=index,
                plane_count=len(planes),
            )
            bag.write_message(f'{base}/focus_state', state, stamp)
    return Path(path)


def make_header(types: Typestore, stamp_ns: int, frame_id: str) -> Any:
    """Return a ``std_msgs/Header`` of rosbags."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    time = types.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
    return types.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)


def make_image(types: Typestore, header: Any, pixels: np.ndarray) -> Any:
    """Return a ``sensor_msgs/Image`` of rosbags: rgb8 for (H, W, 3), mono8 for (H, W)."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, dtype=np.uint8).reshape(-1)
    return types.types['sensor_msgs/msg/Image'](
        header=header,
        height=height,
        width=width,
        encoding='rgb8' if pixels.ndim == 3 else 'mono8',
        is_bigendian=0,
        step=data.size // height,
        data=data,
    )


def make_camera_info(types: Typestore, header: Any, camera: PinholeCamera) -> Any:
    """Return a ``sensor_msgs/CameraInfo`` of rosbags for a rectified image."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    region = types.types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types.types['sensor_msgs/msg/CameraInfo'](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], dtype=np.float64),
        r=np.eye(3).reshape(-1),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], dtype=np.float64),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
