# SPDX-License-Identifier: Apache-2.0
"""Image and camera_info messages for tests."""

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

MAX_PIXELS = 1 << 20


def image_message(data, encoding, width, height, step=None, big=0):
    message = Image(
        width=width,
        height=height,
        encoding=encoding,
        is_bigendian=big,
        step=len(data) // height if step is None else step,
    )
    message.data = data
    return message


def padded(array, extra):
    """Return the bytes of an image whose rows have ``extra`` bytes behind them."""
    rows = array.reshape(array.shape[0], -1).view(np.uint8)
    return np.pad(rows, ((0, 0), (0, extra)), constant_values=255).tobytes()


def calibration_message(width, height, intrinsics, **changes):
    """Return a CameraInfo; intrinsics are fx, fy, cx, cy."""
    fx, fy, cx, cy = intrinsics
    fields = {
        'width': width,
        'height': height,
        'distortion_model': 'plumb_bob',
        'd': [0.0] * 5,
        'k': [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        'r': [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        'p': [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    }
    return CameraInfo(**{**fields, **changes})


def camera_info(width=640, height=480, fx=500.0, **changes):
    return calibration_message(width, height, (fx, fx + 5, 320.0, 240.0), **changes)


def encoded_message(image, ending, kind='jpeg'):
    """Return a compressed image; ``ending`` is that of a file name, such as ``.jpg``."""
    message = CompressedImage(format=f'rgb8; {kind} compressed bgr8')
    message.data = cv2.imencode(ending, image)[1].tobytes()
    return message
