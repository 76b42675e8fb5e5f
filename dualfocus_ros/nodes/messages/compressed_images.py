# SPDX-License-Identifier: Apache-2.0
"""Decoding of ``sensor_msgs/msg/CompressedImage``: JPEG and PNG.

The size in the header is checked before the decoder allocates memory.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage

from dualfocus_ros.nodes.messages.message_checks import MessageError, check_frame_id, check_size

_PNG = b'\x89PNG\r\n\x1a\n'


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
    view = memoryview(msg.data).cast('B')
    if bytes(view[: len(_PNG)]) == _PNG:
        _check_png(view)
    return size


def _check_png(data: memoryview) -> None:
    """Check the chunk lengths of a PNG image, because the decoder allocates them unchecked.

    :raises MessageError: if a chunk is longer than the data, or the file has several frames.
    """
    at, name = len(_PNG), b''
    while name != b'IEND':
        length = int.from_bytes(data[at : at + 4], 'big')
        name = bytes(data[at + 4 : at + 8])
        again = name == b'IHDR' and at > len(_PNG)
        if again or name == b'acTL':
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
