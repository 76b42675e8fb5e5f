# SPDX-License-Identifier: Apache-2.0
"""What the encoding strings of ``sensor_msgs/Image`` stand for (``image_encodings.hpp``)."""

from __future__ import annotations

from dataclasses import dataclass
import re

import numpy as np

# The letters that OpenCV gives its sample types. The order is that of its depth numbers.
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
    """One encoding.

    :param sample: OpenCV's letters for the type of one sample, a key of ``SAMPLE_TYPES``.
    :param channels: samples per pixel.
    :param colours: the meaning of the channels (``'GRAY'``, ``'BGR'``, ``'BayerRGGB'`` ...), or
        None for the generic encodings such as ``32FC1``, which mean nothing in particular.
    """

    name: str
    sample: str
    channels: int
    colours: str | None = None

    @property
    def dtype(self) -> np.dtype:
        """The type of one sample, in native byte order."""
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
    """Look an encoding up.

    :raises KeyError: for an encoding that cv_bridge has no OpenCV type for. ``uyvy``, ``yuyv``,
        ``nv12``, ``nv21`` and ``nv24`` are among them, as in the real package.
    """
    if encoding in _NAMED:
        return _NAMED[encoding]
    match = _GENERIC.fullmatch(encoding)
    if match is None:
        raise KeyError(encoding)
    return Encoding(encoding, match[1], int(match[2] or 1))
