# SPDX-License-Identifier: Apache-2.0
"""Output images of the depth node as arrays. Without ROS.

Input images need more encodings and checks: ``nodes/messages/image_decoding.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# NumPy type and channels by encoding.
_ENCODINGS = {'rgb8': ('u1', 3), 'mono8': ('u1', 1), '32FC1': ('f4', 1), '16UC1': ('u2', 1)}


def output_image_to_array(image: Any) -> np.ndarray:
    """Return the pixels of a ``sensor_msgs/Image`` of rosbags or rclpy.

    :returns: rgb8 (H, W, 3) and mono8 (H, W) uint8; 32FC1 (H, W) float32; 16UC1 (H, W) float32 in
        metres, NaN for 0 (REP 118).
    :raises ValueError: for another encoding, or contradicting sizes.
    """
    if image.encoding not in _ENCODINGS:
        raise ValueError(
            f'unsupported encoding {image.encoding} (supported: {", ".join(_ENCODINGS)})'
        )
    kind, channels = _ENCODINGS[image.encoding]
    dtype = np.dtype(('>' if image.is_bigendian else '<') + kind)
    used = image.width * channels * dtype.itemsize
    data = np.asarray(image.data, np.uint8)
    if image.step < used or data.size != image.height * image.step or not data.size:
        raise ValueError(
            f'{image.width}x{image.height} {image.encoding} pixels with rows of {image.step} '
            f'bytes do not make {data.size} bytes'
        )
    rows = np.ascontiguousarray(data.reshape(image.height, image.step)[:, :used])
    values = rows.view(dtype).astype(dtype.newbyteorder('='), copy=False)
    if kind == 'u2':
        return np.where(values == 0, np.nan, values / 1000.0).astype(np.float32)
    return values.reshape(image.height, image.width, 3) if channels == 3 else values
