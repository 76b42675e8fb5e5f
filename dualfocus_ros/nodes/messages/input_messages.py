# SPDX-License-Identifier: Apache-2.0
"""Conversion of input messages: calibrations, focus and whole stacks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES, FocalStack, Plane
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.nodes.messages.image_decoding import MessageError, check_frame_id, decode_image
from dualfocus_ros.stamps import to_ns


def calibration_from_msg(msg: CameraInfo) -> CameraCalibration:
    """Return the calibration of the published pixels, with binning and region of interest.

    :raises MessageError: if the camera is not calibrated or its distortion is not supported.
    """
    if not msg.k[0] > 0.0 or not msg.k[4] > 0.0:
        raise MessageError(
            'uncalibrated',
            f'camera_info has fx={msg.k[0]}, fy={msg.k[4]}: the camera is not '
            'calibrated, so there are no points and no camera_info of the depth image',
        )
    try:
        raw = _camera(msg, msg.k[0], msg.k[4], msg.k[2], msg.k[5])
        rectified = None
        if msg.p[0] > 0.0 and msg.p[5] > 0.0:
            rectified = _camera(msg, msg.p[0], msg.p[5], msg.p[2], msg.p[6])
        rotation = tuple(float(v) for v in msg.r)
        if not any(rotation):
            rotation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        return CameraCalibration(
            raw, msg.distortion_model, tuple(float(v) for v in msg.d), rotation, rectified
        )
    except ValueError as error:
        raise MessageError('camera_info', f'camera_info: {error}') from error


def _camera(msg: CameraInfo, fx: float, fy: float, cx: float, cy: float) -> PinholeCamera:
    """Return a pinhole camera of the published pixels from intrinsics at full resolution.

    A binned pixel U covers the full ones from bU to bU + b - 1, whose centre is
    bU + (b - 1) / 2, with integer coordinates at pixel centres.
    """
    roi = msg.roi
    across, down = max(1, msg.binning_x), max(1, msg.binning_y)
    width = (roi.width or msg.width) // across
    height = (roi.height or msg.height) // down
    return PinholeCamera(
        width,
        height,
        fx / across,
        fy / down,
        (cx - roi.x_offset + 0.5) / across - 0.5,
        (cy - roi.y_offset + 0.5) / down - 0.5,
    )


def cameras_of(
    image: np.ndarray, calibration: CameraCalibration | None, rectify: bool
) -> tuple[PinholeCamera | None, CameraCalibration | None]:
    """Return intrinsics and calibration of a plane, for :class:`Plane`.

    :param rectify: whether to rectify distorted images.
    :returns: the intrinsics after rectification, None if unknown; the calibration for the
        rectification, None without one.
    :raises MessageError: if the calibration is for another image size.
    """
    if calibration is None:
        return None, None
    expected = (calibration.camera.width, calibration.camera.height)
    if expected != image.shape[1::-1]:
        raise MessageError(
            'camera_size',
            f'camera_info is for {expected[0]}x{expected[1]} pixels, the image has '
            f'{image.shape[1]}x{image.shape[0]}',
        )
    distorted = calibration if rectify and not calibration.is_rectified else None
    return calibration.output, distorted


def focal_stack_from_msg(
    msg: FocalStackMsg,
    max_pixels: int,
    rectify: bool = False,
    fallback: CameraCalibration | None = None,
    convert: Callable[[Image, int], np.ndarray] = decode_image,
) -> FocalStack:
    """Return the stack in a ``FocalStack`` message.

    Images without a stamp get the stamp of the message.

    :param rectify: whether to rectify the planes; otherwise they are treated as rectified.
    :param fallback: calibration for a message without one (K = 0).
    :param convert: ``decode_image``, or ``blank_image`` to check only.
    :raises MessageError: if the stack or one of its images cannot be used.
    """
    check_frame_id(msg.header)
    count = len(msg.images)
    if len(msg.focus_dioptres) != count:
        raise MessageError(
            'plane_count', f'{count} images but {len(msg.focus_dioptres)} focus distances'
        )
    if not MIN_PLANES <= count <= MAX_PLANES:
        raise MessageError(
            'plane_count', f'a stack has {MIN_PLANES} to {MAX_PLANES} planes, got {count}'
        )
    calibration = calibration_from_msg(msg.camera_info) if any(msg.camera_info.k) else fallback
    frame_id = msg.header.frame_id or msg.images[0].header.frame_id
    whole = to_ns(msg.header.stamp)
    planes = []
    for index, (image_msg, focus) in enumerate(zip(msg.images, msg.focus_dioptres, strict=True)):
        image = convert(image_msg, max_pixels)
        camera, distorted = cameras_of(image, calibration, rectify)
        stamp = to_ns(image_msg.header.stamp) or whole
        if stamp == 0:
            raise MessageError('zero_stamp', 'the stamp of the stack is zero')
        try:
            planes.append(Plane(image, float(focus), stamp, camera, index, distorted))
        except ValueError as error:
            raise MessageError('focus_unknown', f'plane {index}: {error}') from error
    planes.sort(key=lambda plane: plane.stamp_ns)
    try:
        return FocalStack(tuple(planes), frame_id)
    except ValueError as error:
        raise MessageError('plane_count', str(error)) from error
