# SPDX-License-Identifier: Apache-2.0
"""Messages that go out: depth by REP 117 and 118, camera_info, clouds and stack_info.

Arrays are appended to the ``array.array`` that a ``uint8[]`` field already is: one copy at the
speed of memory. Its setter would copy once more, and an ndarray or memoryview element by element,
a hundred ms a megabyte.
"""

from __future__ import annotations

from array import array
import sys

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.msg import StackInfo
from dualfocus_ros.nodes.input_messages import to_stamp

POINT_STEP = 16
_BIG_ENDIAN = sys.byteorder == 'big'
_MAX_MILLIMETRES = 65535


def _fill(data: array, values: np.ndarray) -> None:
    """Copy an array into the empty field of a message."""
    if values.size:  # a view without elements cannot be cast
        data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def image_message(header: Header, image: np.ndarray, encoding: str) -> Image:
    """Return an image message of an array that already has the layout of ``encoding``."""
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
    :param encoding: ``32FC1``, or ``16UC1`` for millimetres with 0 for everything that is not a
        distance below 65.536 m.
    """
    if encoding == '32FC1':
        return image_message(header, depth.astype(np.float32, copy=False), encoding)
    return image_message(header, to_millimetres(depth), '16UC1')


def to_millimetres(depth: np.ndarray) -> np.ndarray:
    """Return depth in whole millimetres, uint16; 0 where there is none."""
    with np.errstate(invalid='ignore', over='ignore'):
        millimetres = np.rint(depth * np.float32(1000.0))
        valid = (millimetres >= 1.0) & (millimetres <= _MAX_MILLIMETRES)
    return np.where(valid, millimetres, 0.0).astype(np.uint16)


def camera_message(header: Header, camera: PinholeCamera) -> CameraInfo:
    """Return the CameraInfo of a rectified image: no distortion, R identity, P = [K 0]."""
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
    """Return the stamp of the depth map, in nanoseconds: that of one of the stack's planes.

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
    """Return what the stack was made of; the caller adds timings, model and device."""
    return StackInfo(
        header=header,
        stamps=[to_stamp(plane.stamp_ns) for plane in stack.planes],
        focus_dioptres=[float(plane.focus_dioptres) for plane in stack.planes],
        sweep_id=stack.sweep_id,
        flags=int(stack.flags),
        sweep_duration=stack.sweep_duration_ns * 1e-9,
    )
