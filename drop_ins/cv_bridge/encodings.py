# SPDX-License-Identifier: Apache-2.0
"""Encodings of ``sensor_msgs/Image`` (``image_encodings.hpp``)."""

from __future__ import annotations

from dataclasses import dataclass
import re

import numpy as np

# OpenCV names of sample types, in the order of its depth numbers.
SAMPLE_TYPES = {
    '8U': np.dtype(np.uint8),
    '8S': np.dtype(np.int8),
    '16U': np.dtype(np.uint16),
    '16S': np.dtype(np.int16),
    '32S': np.dtype(np.int32),
    '32F': np.dtype(np.float32),
    '64F': np.dtype(np.float64),
}

_GENERIC = re.compile(r'(8U|8S|16U|16S|32S|32F|64F)(?:C([0-9]+))?')


@dataclass(frozen=True)
class Encoding:
    """Image encoding.

    :param sample: OpenCV name of the sample type, a key of ``SAMPLE_TYPES``.
    :param channels: samples per pixel.
    :param colours: colour format (``'GRAY'``, ``'BGR'``, ``'BayerRGGB'`` ...); None for generic
        encodings such as ``32FC1``.
    """

    name: str
    sample: str
    channels: int
    colours: str | None = None

    @property
    def dtype(self) -> np.dtype:
        """Sample type in native byte order."""
        return SAMPLE_TYPES[self.sample]


def _named_encodings() -> dict[str, Encoding]:
    table = {}
    for bits in ('8', '16'):
        sample = bits + 'U'
        for name, colours, channels in (
            ('mono', 'GRAY', 1),
            ('rgb', 'RGB', 3),
            ('bgr', 'BGR', 3),
            ('rgba', 'RGBA', 4),
            ('bgra', 'BGRA', 4),
            ('bayer_rggb', 'BayerRGGB', 1),
            ('bayer_bggr', 'BayerBGGR', 1),
            ('bayer_gbrg', 'BayerGBRG', 1),
            ('bayer_grbg', 'BayerGRBG', 1),
        ):
            table[name + bits] = Encoding(name + bits, sample, channels, colours)
    table['yuv422'] = Encoding('yuv422', '8U', 2, 'UYVY')
    table['yuv422_yuy2'] = Encoding('yuv422_yuy2', '8U', 2, 'YUY2')
    return table


_NAMED = _named_encodings()


def parse(encoding: str) -> Encoding:
    """Return an encoding by name.

    :raises KeyError: for an encoding without OpenCV type; as in the original, among them
        ``uyvy``, ``yuyv``, ``nv12``, ``nv21`` and ``nv24``.
    """
    if encoding in _NAMED:
        return _NAMED[encoding]
    match = _GENERIC.fullmatch(encoding)
    if match is None:
        raise KeyError(encoding)
    return Encoding(encoding, match[1], int(match[2] or 1))
