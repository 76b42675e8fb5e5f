# SPDX-License-Identifier: Apache-2.0
"""Checks and decoding of ``sensor_msgs/msg/Image`` and ``CompressedImage`` (JPEG and PNG).

All sizes, those in the header of a JPEG or PNG too, are checked against each other and against
``max_pixels`` before memory is allocated, and no byte outside the data is read.
"""

from __future__ import annotations

from dataclasses import dataclass
import functools
import struct
import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_PNG = b'\x89PNG\r\n\x1a\n'
# Error texts are logged and published once a second; frame ids go into every output.
_MAX_TEXT = 900
_MAX_FRAME_ID = 255


class MessageError(ValueError):
    """Rejected message.

    :param reason: short name under which rejections are counted.
    :param text: the received and the accepted values.
    """

    def __init__(self, reason: str, text: str) -> None:
        text = ' '.join(text.split())
        if len(text) > _MAX_TEXT:
            text = f'{text[: _MAX_TEXT // 3]} … {text[-_MAX_TEXT // 2 :]}'
        super().__init__(text)
        self.reason = reason


def check_frame_id(header: Header) -> None:
    if len(header.frame_id) > _MAX_FRAME_ID:
        raise MessageError(
            'frame_id',
            f'a frame_id of {len(header.frame_id)} characters; the maximum is {_MAX_FRAME_ID}',
        )


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise MessageError('empty', f'an image of {width}x{height} pixels')
    if width * height > max_pixels:
        raise MessageError(
            'too_large',
            f'{width}x{height} is more than the {max_pixels} pixels of the parameter max_pixels',
        )


def decode_image(msg: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """Return the image as (H, W, 3) RGB or (H, W) mono, uint8.

    :raises MessageError: if the message cannot be decoded.
    """
    if isinstance(msg, CompressedImage):
        return compressed_to_array(msg, max_pixels)
    return image_to_array(msg, max_pixels)


def blank_image(msg: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """Return a blank image of the size of the message, without decoding or allocation.

    :raises MessageError: if the fields of the message or the header of its image are wrong.
    """
    if isinstance(msg, CompressedImage):
        width, height = compressed_size(msg, max_pixels)
        shape: tuple[int, ...] = (height, width, 3)
    else:
        check_image(msg, max_pixels)
        mono = PIXEL_LAYOUTS[msg.encoding].mono
        shape = (msg.height, msg.width) if mono else (msg.height, msg.width, 3)
    return np.broadcast_to(np.uint8(0), shape)


def is_zero_copy(msg: Image | CompressedImage) -> bool:
    """Return whether :func:`decode_image` copies nothing."""
    if not isinstance(msg, Image) or msg.encoding in _SEMI_PLANAR:
        return False
    layout = PIXEL_LAYOUTS.get(msg.encoding)
    return layout is not None and not layout.bridge


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


def compressed_to_array(msg: CompressedImage, max_pixels: int) -> np.ndarray:
    """Decode a JPEG or PNG image to (H, W, 3) RGB or (H, W) mono, uint8.

    :raises MessageError: if it is neither, larger than ``max_pixels`` or damaged.
    """
    width, height = compressed_size(msg, max_pixels)
    data = np.frombuffer(msg.data, np.uint8)
    try:
        # Rows as on the sensor: a rotation by EXIF would contradict camera_info.
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MessageError('undecodable', f'the image cannot be decoded: {error}') from error
    if image is None or image.shape[:2] != (height, width):
        raise MessageError('undecodable', f'an image of {width}x{height} is damaged')
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def compressed_size(msg: CompressedImage, max_pixels: int) -> tuple[int, int]:
    check_frame_id(msg.header)
    if 'compressedDepth' in msg.format:
        raise MessageError('encoding', f'{msg.format!r} is a depth image; expected JPEG or PNG')
    size = encoded_size(msg.data)
    if size is None:
        raise MessageError(
            'undecodable',
            f'{len(msg.data)} bytes of format {msg.format!r} are neither JPEG nor PNG',
        )
    check_size(*size, max_pixels)
    data = memoryview(msg.data).cast('B')
    if bytes(data[: len(_PNG)]) == _PNG:
        _check_png(data)
    return size


def _check_png(data: memoryview) -> None:
    """Check the number of frames and the chunk lengths, which the decoder allocates unchecked."""
    at, name = len(_PNG), b''
    while name != b'IEND':
        length = int.from_bytes(data[at : at + 4], 'big')
        name = bytes(data[at + 4 : at + 8])
        if name == b'acTL' or (name == b'IHDR' and at > len(_PNG)):
            raise MessageError('undecodable', 'a PNG image with several frames')
        at += 12 + length
        if at > len(data):
            raise MessageError(
                'undecodable', f'a PNG image of {len(data)} bytes is truncated or damaged'
            )


def encoded_size(data: Any) -> tuple[int, int] | None:
    """Return width and height of a JPEG or PNG image from its header; None if it is neither.

    :param data: object with the buffer protocol.
    """
    view = memoryview(data).cast('B')
    if bytes(view[:8]) == _PNG:
        if len(view) < 24 or bytes(view[12:16]) != b'IHDR':
            return None
        width, height = struct.unpack('>II', view[16:24])
        return width, height
    if bytes(view[:2]) != b'\xff\xd8':
        return None
    at = 2
    while at + 4 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = view[at + 2] << 8 | view[at + 3]
        # Start of frame: C0 to CF without Huffman tables, extensions and arithmetic coding.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if at + 9 > len(view):
                return None
            height, width = struct.unpack('>HH', view[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
