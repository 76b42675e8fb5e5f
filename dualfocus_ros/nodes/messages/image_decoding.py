# SPDX-License-Identifier: Apache-2.0
"""Decoding of raw and compressed image messages."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from dualfocus_ros.nodes.messages import compressed_images, raw_images


def decode_image(msg: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """Return the image as (H, W, 3) RGB or (H, W) mono, uint8.

    :raises MessageError: if the message cannot be decoded.
    """
    if isinstance(msg, CompressedImage):
        return compressed_images.compressed_to_array(msg, max_pixels)
    return raw_images.image_to_array(msg, max_pixels)


def blank_image(msg: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """Return a blank image of the size of the message, without decoding or allocation.

    :raises MessageError: if the fields of the message or the header of its image are wrong.
    """
    if isinstance(msg, CompressedImage):
        width, height = compressed_images.compressed_size(msg, max_pixels)
        shape: tuple[int, ...] = (height, width, 3)
    else:
        raw_images.check_image(msg, max_pixels)
        mono = raw_images.PIXEL_LAYOUTS[msg.encoding].mono
        shape = (msg.height, msg.width) if mono else (msg.height, msg.width, 3)
    return np.broadcast_to(np.uint8(0), shape)


def is_zero_copy(msg: Image | CompressedImage) -> bool:
    """Return whether :func:`decode_image` copies nothing."""
    return isinstance(msg, Image) and msg.encoding in raw_images.ZERO_COPY
