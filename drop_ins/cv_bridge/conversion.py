# SPDX-License-Identifier: Apache-2.0
"""Conversion of pixels between encodings, by the rules of the original ``cv_bridge``."""

from __future__ import annotations

import cv2
from cv_bridge.encodings import SAMPLE_TYPES, Encoding, parse
import numpy as np


class CvBridgeError(TypeError):
    """Raised when a conversion is not possible."""


def find(encoding: str) -> Encoding:
    """Return an encoding by name.

    :raises CvBridgeError: if the encoding is unknown.
    """
    try:
        return parse(encoding)
    except KeyError:
        raise CvBridgeError(f'Unrecognized image encoding [{encoding}]') from None


def getCvType(encoding: str) -> int:  # noqa: N802 - name of the original
    """Return the OpenCV type number of an encoding, such as ``cv2.CV_8UC3`` for ``bgr8``.

    :raises RuntimeError: if the encoding is unknown.
    """
    try:
        found = parse(encoding)
    except KeyError:
        raise RuntimeError(f'Unrecognized image encoding [{encoding}]') from None
    return cv_type_number(found)


def cv_type_number(encoding: Encoding) -> int:
    """Return the OpenCV type number, which differs between OpenCV 4 and 5."""
    if encoding.channels <= 4:
        return int(getattr(cv2, f'CV_{encoding.sample}C{encoding.channels}'))
    return int(getattr(cv2, f'CV_{encoding.sample}C')(encoding.channels))


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert an image; never returns a view of it.

    Between 8 and 16 bits values are scaled to the full range. Between other types they are kept,
    rounded half to even and clipped to the range of the target.

    :param image: (H, W) or (H, W, C) in encoding ``source``.
    :raises CvBridgeError: if no such conversion exists.
    """
    if target in ('', source):
        return image.copy()
    old, new = find(source), find(target)
    for encoding in (old, new):
        if encoding.name in SAMPLE_TYPES:  # '8U' for '8UC1' is not allowed in conversions
            raise CvBridgeError(f'Unknown encoding {encoding.name}')
    if old.colours is None or new.colours is None:
        _check_generic(old, new)
        return _change_type(image, old, new)
    if old.colours != new.colours:
        code = _colour_code(old, new)
        try:
            image = cv2.cvtColor(image, code)
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
    elif old.colours.startswith('Bayer') or old.colours == 'YUY2':
        # As in the original: Bayer and YUY2 are sources of conversions only.
        raise CvBridgeError(f'Unsupported conversion from [{source}] to [{target}]')
    return _change_type(image, old, new)


def _check_generic(old: Encoding, new: Encoding) -> None:
    """Refuse conversions of generic encodings that change the number of channels."""
    if old.colours is None and new.colours is not None:
        raise CvBridgeError(
            f'[{old.name}] is not a color format. but [{new.name}] is. '
            'The conversion does not make sense'
        )
    if old.channels == new.channels:
        return
    if old.colours is None:
        raise CvBridgeError(
            f'[{old.name}] and [{new.name}] do not have the same number of channel'
        )
    raise CvBridgeError(
        f'[{old.name}] is a color format but [{new.name}] is not so they must have the same '
        'OpenCV type, CV_8UC3, CV16UC1 ....'
    )


def _colour_code(old: Encoding, new: Encoding) -> int:
    """Return the OpenCV code of a colour conversion."""
    refusal = CvBridgeError(f'Unsupported conversion from [{old.name}] to [{new.name}]')
    targets = {'GRAY', 'RGB', 'BGR', 'RGBA', 'BGRA'}
    if str(old.colours).startswith('Bayer'):
        targets = {'GRAY', 'RGB', 'BGR'}
    if new.colours not in targets:
        raise refusal
    if old.colours in ('UYVY', 'YUY2'):
        return int(getattr(cv2, f'COLOR_YUV2{new.colours}_{old.colours}'))
    # The names of Bayer patterns that all OpenCV versions have start one pixel later: 'BG' is
    # RGGB.
    source = {
        'BayerRGGB': 'BayerBG',
        'BayerBGGR': 'BayerRG',
        'BayerGBRG': 'BayerGR',
        'BayerGRBG': 'BayerGB',
    }.get(str(old.colours), old.colours)
    return int(getattr(cv2, f'COLOR_{source}2{new.colours}'))


def _change_type(image: np.ndarray, old: Encoding, new: Encoding) -> np.ndarray:
    """Convert samples between the types of two encodings."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if old.dtype == new.dtype:
        return image.copy()
    if new.dtype.kind == 'f' and old.dtype.itemsize <= new.dtype.itemsize:
        return image.astype(new.dtype)
    scale = {(1, 2): 65535 / 255, (2, 1): 255 / 65535}.get(
        (old.dtype.itemsize, new.dtype.itemsize), 1.0
    )
    values = image.astype(np.float64) * scale
    if new.dtype.kind != 'f':
        limits = np.iinfo(SAMPLE_TYPES[new.sample])
        # OpenCV rounds to a 32-bit integer first; values outside, and NaN, become the lowest.
        values = np.where(np.abs(values) < 2.0**31, values, -(2.0**31))
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(new.dtype)
