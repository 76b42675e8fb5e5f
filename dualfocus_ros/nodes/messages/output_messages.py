# SPDX-License-Identifier: Apache-2.0
"""Output messages: depth by REP 117 and 118, camera_info, point clouds and stack_info.

Arrays are appended to the ``array.array`` that already is in a ``uint8[]`` field: one copy at
memory speed. The setter of the field would copy twice, and an ndarray or memoryview element by
element, 100 ms a megabyte.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
import sys
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from dualfocus_ros import topics
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import DepthResult
from dualfocus_ros.io.depth_files import to_millimetres
from dualfocus_ros.msg import StackInfo
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.stamps import to_stamp

POINT_STEP = 16
_BIG_ENDIAN = sys.byteorder == 'big'


def _fill(data: array, values: np.ndarray) -> None:
    """Copy an array into the empty field of a message."""
    if values.size:  # a view without elements cannot be cast
        data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def image_message(header: Header, image: np.ndarray, encoding: str) -> Image:
    """Return the image message of an array in the memory layout of ``encoding``."""
    height, width = image.shape[:2]
    msg = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(_BIG_ENDIAN),
        step=image.nbytes // height,
    )
    _fill(msg.data, image)
    return msg


def depth_message(header: Header, depth: np.ndarray, encoding: str) -> Image:
    """Return a depth image by REP 118.

    :param depth: (H, W) float32 metres; NaN invalid, -inf too near, +inf too far (REP 117).
    :param encoding: ``32FC1``, or ``16UC1`` for millimetres, 0 where the depth is not finite or
        not below 65.536 m.
    """
    if encoding == '32FC1':
        return image_message(header, depth.astype(np.float32, copy=False), encoding)
    return image_message(header, to_millimetres(depth), '16UC1')


def camera_message(header: Header, camera: PinholeCamera) -> CameraInfo:
    """Return the CameraInfo of a rectified image: no distortion, R = I, P = [K 0]."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def cloud_message(header: Header, points: np.ndarray, color: bool) -> PointCloud2:
    """Return a cloud of 16 bytes a point: x, y, z and, with ``color``, rgb; all FLOAT32.

    :param points: (H, W, 4) float32 for an organised cloud, (M, 4) for an unorganised one.
    """
    height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
    names = ('x', 'y', 'z', 'rgb') if color else ('x', 'y', 'z')
    msg = PointCloud2(
        header=header,
        height=height,
        width=width,
        is_bigendian=_BIG_ENDIAN,
        is_dense=False,
        point_step=POINT_STEP,
        row_step=POINT_STEP * width,
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(names)
        ],
    )
    _fill(msg.data, points)
    return msg


def output_stamp(stack: FocalStack, policy: str) -> int:
    """Return the stamp of the outputs in nanoseconds: the stamp of one plane of the stack.

    :param policy: ``reference``, ``first``, ``mid`` (the plane nearest to the middle of the
        sweep) or ``last``.
    """
    stamps = sorted(plane.stamp_ns for plane in stack.planes)
    if policy == 'first':
        return stamps[0]
    if policy == 'last':
        return stamps[-1]
    if policy == 'mid':
        return min(stamps, key=lambda stamp: abs(2 * stamp - stamps[0] - stamps[-1]))
    return stack.planes[stack.reference].stamp_ns


def stack_info_message(header: Header, stack: FocalStack) -> StackInfo:
    """Return planes and flags of a stack; the caller adds timings, model and device."""
    return StackInfo(
        header=header,
        stamps=[to_stamp(plane.stamp_ns) for plane in stack.planes],
        focus_dioptres=[float(plane.focus_dioptres) for plane in stack.planes],
        sweep_id=stack.sweep_id,
        flags=int(stack.flags),
        sweep_duration=stack.sweep_duration_ns * 1e-9,
    )


def output_message(
    topic: str, header: Header, result: DepthResult, settings: DepthNodeSettings
) -> Any:
    """Return the message of a topic of BUILDERS; None where the result lacks the data."""
    field, build = BUILDERS[topic]
    data = getattr(result, field)
    return None if data is None else build(header, data, settings)


_Builder = Callable[[Header, Any, DepthNodeSettings], Any]


def _image(encoding: str) -> _Builder:
    return lambda header, image, settings: image_message(header, image, encoding)


def _camera(header: Header, camera: PinholeCamera, settings: DepthNodeSettings) -> CameraInfo:
    return camera_message(header, camera)


def _cloud(header: Header, points: np.ndarray, settings: DepthNodeSettings) -> PointCloud2:
    return cloud_message(header, points, settings.points_color)


# Field of the result and builder of the message of each output topic but stack_info, which needs
# the timings.
BUILDERS: dict[str, tuple[str, _Builder]] = {
    topics.DEPTH.name: (
        'depth',
        lambda header, depth, settings: depth_message(header, depth, settings.depth_encoding),
    ),
    topics.DEPTH_CAMERA_INFO.name: ('camera', _camera),
    topics.POINTS.name: ('points', _cloud),
    topics.POINTS_DECIMATED.name: ('points_decimated', _cloud),
    topics.SIGMA.name: ('sigma', _image('32FC1')),
    topics.CONFIDENCE.name: ('confidence', _image('mono8')),
    topics.RGB.name: ('all_in_focus', _image('rgb8')),
    topics.RGB_CAMERA_INFO.name: ('camera', _camera),
}
