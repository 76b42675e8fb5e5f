# SPDX-License-Identifier: Apache-2.0
"""Messages that come in: images, calibrations and whole stacks, checked before they are used.

Nothing is allocated for a message before its sizes have been checked against each other and
against ``max_pixels``, and no byte outside its data is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import functools
import struct
import sys
from typing import Any

from builtin_interfaces.msg import Time
import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES, FocalStack, Plane
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.stamps import to_ns as stamp_ns

# Texts that are repeated each second, and names that go into every output.
_MAX_TEXT = 900
_MAX_FRAME_ID = 255
_PNG = b'\x89PNG\r\n\x1a\n'


class MessageError(ValueError):
    """A message that cannot be used.

    :param reason: a short name for counting.
    :param text: what was received, and what would be accepted.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(_one_line(text))
        self.reason = reason


def _one_line(text: str) -> str:
    """Return a text in one line, without the middle where a message put a book into it."""
    text = ' '.join(text.split())
    return (
        text if len(text) <= _MAX_TEXT else f'{text[: _MAX_TEXT // 3]} … {text[-_MAX_TEXT // 2 :]}'
    )


@dataclass(frozen=True)
class _PixelLayout:
    """How an encoding lies in memory.

    :param pixel: bytes a pixel.
    :param sample: bytes a sample, of which the byte order matters.
    :param bridge: the name by which cv_bridge knows it; empty where it does not.
    :param mono: whether it has no colour.
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
        # OpenCV's own order, for drivers that name the type only.
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
_ZERO_COPY = {name for name, layout in PIXEL_LAYOUTS.items() if not layout.bridge} - set(
    _SEMI_PLANAR
)


def to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a stamp, exactly."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def check_image(msg: Image, max_pixels: int) -> None:
    """Check what the fields of an image say against each other, without touching its data.

    :raises MessageError: with a reason and a text that names the fields.
    """
    height, width, step = msg.height, msg.width, msg.step
    _check_header(msg.header)
    _check_size(width, height, max_pixels)
    layout = PIXEL_LAYOUTS.get(msg.encoding)
    if layout is None:
        raise MessageError(
            'encoding',
            f'encoding {msg.encoding!r} is not accepted; use {", ".join(PIXEL_LAYOUTS)}',
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


def blank_image(msg: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """Return a blank image of the size of a message, without memory and without decoding.

    :raises MessageError: as far as the header of the message tells that it cannot be used.
    """
    if isinstance(msg, CompressedImage):
        width, height = _compressed_size(msg, max_pixels)
        shape: tuple[int, ...] = (height, width, 3)
    else:
        check_image(msg, max_pixels)
        mono = PIXEL_LAYOUTS[msg.encoding].mono
        shape = (msg.height, msg.width) if mono else (msg.height, msg.width, 3)
    return np.broadcast_to(np.uint8(0), shape)


def is_zero_copy(msg: Image | CompressedImage) -> bool:
    """Return whether :func:`image_to_array` takes a message as it is, in no time."""
    return isinstance(msg, Image) and msg.encoding in _ZERO_COPY


def image_to_array(msg: Image, max_pixels: int) -> np.ndarray:
    """Return the image as (H, W, 3) RGB or (H, W) mono, uint8, contiguous.

    rgb8 and mono8 without padding are views of the message's own data, which the array keeps
    alive; everything else is converted by cv_bridge.

    :raises MessageError: for an encoding that is not accepted or sizes that contradict.
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
    """Return the image as cv_bridge takes it: no padding, native byte order, a name it knows."""
    native_big = sys.byteorder == 'big'
    row = msg.width * layout.pixel
    swapped = layout.sample > 1 and bool(msg.is_bigendian) != native_big
    if msg.step == row and not swapped and msg.encoding == layout.bridge:
        # The byte order of single bytes means nothing, but cv_bridge would swap them.
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
    # Only here: the cv_bridge of some distros does not import beside NumPy 2, and who sends rgb8
    # or mono8 does not need it.
    from cv_bridge import CvBridge

    return CvBridge()


def _convert_with_cv_bridge(msg: Image, encoding: str) -> np.ndarray:
    try:
        converted = _cv_bridge().imgmsg_to_cv2(msg, encoding)
    except ImportError as error:
        raise MessageError(
            'cv_bridge',
            f'{msg.encoding} images need cv_bridge, which does not import ({error}); '
            'let the driver send rgb8 or mono8',
        ) from error
    except (TypeError, ValueError, RuntimeError, cv2.error) as error:
        raise MessageError(
            'encoding', f'cv_bridge cannot turn {msg.encoding} into {encoding}: {error}'
        ) from error
    return np.ascontiguousarray(converted)


def compressed_to_array(msg: CompressedImage, max_pixels: int) -> np.ndarray:
    """Decode a JPEG or PNG image to (H, W, 3) RGB or (H, W) mono, uint8.

    :raises MessageError: if it is neither, larger than ``max_pixels`` or damaged.
    """
    width, height = _compressed_size(msg, max_pixels)
    data = np.frombuffer(msg.data, np.uint8)
    try:
        # Rows as the sensor has them: a rotation by EXIF would contradict camera_info.
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MessageError('undecodable', f'the image cannot be decoded: {error}') from error
    if image is None or image.shape[:2] != (height, width):
        raise MessageError('undecodable', f'an image of {width}x{height} is damaged')
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _compressed_size(msg: CompressedImage, max_pixels: int) -> tuple[int, int]:
    _check_header(msg.header)
    if 'compressedDepth' in msg.format:
        raise MessageError('encoding', f'{msg.format!r} is a depth image, not a picture')
    size = encoded_size(msg.data)
    if size is None:
        raise MessageError(
            'undecodable',
            f'{len(msg.data)} bytes of format {msg.format!r} are neither JPEG nor PNG',
        )
    _check_size(*size, max_pixels)
    view = memoryview(msg.data).cast('B')
    if bytes(view[: len(_PNG)]) == _PNG:
        _check_png(view)
    return size


def _check_png(data: memoryview) -> None:
    """Check the chunks of a PNG image: the decoder allocates what they claim, gigabytes too.

    :raises MessageError: if one is longer than the data, or the image is several in one.
    """
    at, name = len(_PNG), b''
    while name != b'IEND':
        length = int.from_bytes(data[at : at + 4], 'big')
        name = bytes(data[at + 4 : at + 8])
        again = name == b'IHDR' and at > len(_PNG)
        if again or name == b'acTL':
            raise MessageError('undecodable', 'a PNG image with several pictures in it')
        at += 12 + length
        if at > len(data):
            raise MessageError(
                'undecodable', f'a PNG image of {len(data)} bytes is cut off or damaged'
            )


def encoded_size(data: Any) -> tuple[int, int] | None:
    """Return width and height of a JPEG or PNG image from its header; None if it is neither.

    :param data: anything with the buffer protocol.
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
        # Start of frame: all of C0 to CF but Huffman tables, extensions, arithmetic coding.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if at + 9 > len(view):
                return None
            height, width = struct.unpack('>HH', view[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _check_header(header: Header) -> None:
    if len(header.frame_id) > _MAX_FRAME_ID:
        raise MessageError(
            'frame_id',
            f'a frame_id of {len(header.frame_id)} characters; at most {_MAX_FRAME_ID} are taken',
        )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise MessageError('empty', f'an image of {width}x{height} pixels')
    if width * height > max_pixels:
        raise MessageError(
            'too_large',
            f'{width}x{height} is more than the {max_pixels} pixels that max_pixels allows',
        )


def calibration_from_msg(msg: CameraInfo) -> CameraCalibration:
    """Return the calibration of the published pixels, binning and region of interest applied.

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


def focal_stack_from_msg(
    msg: FocalStackMsg,
    max_pixels: int,
    rectify: bool = False,
    fallback: CameraCalibration | None = None,
    convert: Callable[[Image, int], np.ndarray] = image_to_array,
) -> FocalStack:
    """Return a whole stack that came in one message.

    Images without a stamp of their own take that of the message.

    :param rectify: whether the planes are to be rectified; otherwise they are taken as such.
    :param fallback: the calibration where the message has none (K = 0).
    :param convert: ``image_to_array``, or ``blank_image`` to check only.
    :raises MessageError: if the stack or one of its images cannot be used.
    """
    _check_header(msg.header)
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
    whole = stamp_ns(msg.header.stamp)
    planes = []
    for index, (image_msg, focus) in enumerate(zip(msg.images, msg.focus_dioptres, strict=True)):
        image = convert(image_msg, max_pixels)
        camera, distorted = None, None
        if calibration is not None:
            expected = (calibration.camera.width, calibration.camera.height)
            if expected != image.shape[1::-1]:
                raise MessageError(
                    'camera_size',
                    f'camera_info is for {expected[0]}x{expected[1]} pixels, '
                    f'image {index} has {image.shape[1]}x{image.shape[0]}',
                )
            camera = calibration.output
            if rectify and not calibration.is_rectified:
                distorted = calibration
        stamp = stamp_ns(image_msg.header.stamp) or whole
        if stamp == 0:
            raise MessageError('zero_stamp', 'a stack whose stamp is zero')
        try:
            planes.append(Plane(image, float(focus), stamp, camera, index, distorted))
        except ValueError as error:
            raise MessageError('focus_unknown', f'plane {index}: {error}') from error
    planes.sort(key=lambda plane: plane.stamp_ns)
    try:
        return FocalStack(tuple(planes), frame_id)
    except ValueError as error:
        raise MessageError('plane_count', str(error)) from error
