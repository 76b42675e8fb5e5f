# SPDX-License-Identifier: Apache-2.0
"""Decoding of ``sensor_msgs/msg/Image``.

All sizes are checked against each other and against ``max_pixels`` before memory is allocated,
and no byte outside the data is read.
"""

from __future__ import annotations

from dataclasses import dataclass
import functools
import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from dualfocus_ros.nodes.messages.message_checks import MessageError, check_frame_id, check_size


@dataclass(frozen=True)
class _PixelLayout:
    """Memory layout of an encoding.

    :param pixel: bytes per pixel.
    :param sample: bytes per sample, which the byte order applies to.
    :param bridge: name of the encoding in cv_bridge; empty if it is decoded here.
    :param mono: whether the image is grey.
    """

    pixel: int
    sample: int = 1
    bridge: str = ''
    mono: bool = False


def _pixel_layouts() -> dict[str, _PixelLayout]:
    layouts = {
        'rgb8': _PixelLayout(3),
        'mono8': _PixelLayout(1, mono=True),
        '8UC1': _PixelLayout(1, mono=True),
        'mono16': _PixelLayout(2, 2, 'mono16', mono=True),
        # The order of OpenCV, for drivers that name only the type.
        '8UC3': _PixelLayout(3, bridge='bgr8'),
        'yuv422': _PixelLayout(2, bridge='yuv422'),
        'uyvy': _PixelLayout(2, bridge='yuv422'),
        'yuv422_yuy2': _PixelLayout(2, bridge='yuv422_yuy2'),
        'yuyv': _PixelLayout(2, bridge='yuv422_yuy2'),
        'nv12': _PixelLayout(1),
        'nv21': _PixelLayout(1),
    }
    for name, channels in (('bgr', 3), ('rgba', 4), ('bgra', 4)):
        layouts[f'{name}8'] = _PixelLayout(channels, bridge=f'{name}8')
    for name, channels in (('rgb', 3), ('bgr', 3), ('rgba', 4), ('bgra', 4)):
        layouts[f'{name}16'] = _PixelLayout(2 * channels, 2, f'{name}16')
    for order in ('rggb', 'bggr', 'gbrg', 'grbg'):
        layouts[f'bayer_{order}8'] = _PixelLayout(1, bridge=f'bayer_{order}8')
        layouts[f'bayer_{order}16'] = _PixelLayout(2, 2, f'bayer_{order}16')
    return layouts


PIXEL_LAYOUTS = _pixel_layouts()
_SEMI_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
ZERO_COPY = {name for name, layout in PIXEL_LAYOUTS.items() if not layout.bridge} - set(
    _SEMI_PLANAR
)


def check_image(msg: Image, max_pixels: int) -> None:
    """Check the fields of an image against each other, without reading its data.

    :raises MessageError: with a reason and a text that names the fields.
    """
    height, width, step = msg.height, msg.width, msg.step
    check_frame_id(msg.header)
    check_size(width, height, max_pixels)
    layout = PIXEL_LAYOUTS.get(msg.encoding)
    if layout is None:
        raise MessageError(
            'encoding',
            f'encoding {msg.encoding!r} is not supported; use {", ".join(PIXEL_LAYOUTS)}',
        )
    row = width * layout.pixel
    if step < row:
        raise MessageError(
            'row_step', f'{width} {msg.encoding} pixels have {row} bytes, but step is {step}'
        )
    rows = height
    if width % 2 and layout.bridge.startswith('yuv422'):
        raise MessageError('odd_size', f'{msg.encoding} images have an even width, got {width}')
    if msg.encoding in _SEMI_PLANAR:
        if width % 2 or height % 2:
            raise MessageError(
                'odd_size', f'{msg.encoding} images have an even size, got {width}x{height}'
            )
        rows = height + height // 2
    if len(msg.data) != step * rows:
        raise MessageError(
            'data_size',
            f'{rows} rows of {step} bytes make {step * rows} bytes, but the message '
            f'has {len(msg.data)}',
        )


def image_to_array(msg: Image, max_pixels: int) -> np.ndarray:
    """Return the image as (H, W, 3) RGB or (H, W) mono, uint8, contiguous.

    rgb8 and mono8 without padding are views of the message's data, which the array keeps alive;
    nv12 and nv21 are converted by OpenCV, other encodings by cv_bridge.

    :raises MessageError: for an unsupported encoding or contradictory sizes.
    """
    check_image(msg, max_pixels)
    layout = PIXEL_LAYOUTS[msg.encoding]
    if msg.encoding in _SEMI_PLANAR:
        rows = np.frombuffer(msg.data, np.uint8).reshape(-1, msg.step)
        planar = np.ascontiguousarray(rows[:, : msg.width])
        return cv2.cvtColor(planar, _SEMI_PLANAR[msg.encoding])
    if not layout.bridge:
        shape = (msg.height, msg.width) if layout.pixel == 1 else (msg.height, msg.width, 3)
        strides = (msg.step, layout.pixel, 1)[: len(shape)]
        view: np.ndarray = np.ndarray(shape, np.uint8, buffer=msg.data, strides=strides)
        return np.ascontiguousarray(view)
    return _convert_with_cv_bridge(_for_cv_bridge(msg, layout), 'mono8' if layout.mono else 'rgb8')


def _for_cv_bridge(msg: Image, layout: _PixelLayout) -> Image:
    """Return the image for cv_bridge: no padding, native byte order, name of its encoding."""
    native_big = sys.byteorder == 'big'
    row = msg.width * layout.pixel
    swapped = layout.sample > 1 and bool(msg.is_bigendian) != native_big
    if msg.step == row and not swapped and msg.encoding == layout.bridge:
        # Single bytes have no byte order, but cv_bridge would swap them.
        msg.is_bigendian = int(native_big)
        return msg
    data = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, :row]
    if swapped:
        data = np.ascontiguousarray(data).view(np.uint16).byteswap().view(np.uint8)
    tight = Image(
        height=msg.height,
        width=msg.width,
        encoding=layout.bridge,
        step=row,
        is_bigendian=int(native_big),
    )
    tight.data = data.tobytes()
    return tight


@functools.cache
def _cv_bridge() -> Any:
    # Imported late: the cv_bridge of some distros cannot be imported with NumPy 2, and rgb8 and
    # mono8 do not need it.
    from cv_bridge import CvBridge

    return CvBridge()


def _convert_with_cv_bridge(msg: Image, encoding: str) -> np.ndarray:
    try:
        converted = _cv_bridge().imgmsg_to_cv2(msg, encoding)
    except ImportError as error:
        raise MessageError(
            'cv_bridge',
            f'{msg.encoding} images need cv_bridge, which cannot be imported ({error}); '
            'let the driver send rgb8 or mono8',
        ) from error
    except (TypeError, ValueError, RuntimeError, cv2.error) as error:
        raise MessageError(
            'encoding', f'cv_bridge cannot convert {msg.encoding} to {encoding}: {error}'
        ) from error
    return np.ascontiguousarray(converted)
