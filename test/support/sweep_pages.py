# SPDX-License-Identifier: Apache-2.0
"""Decoding of sweeps of a page, as the page does it."""

import base64
import zlib

import numpy as np

from dualfocus_ros.visualization.sweep_encoding import (
    CODE_FARTHER,
    CODE_INVALID,
    CODE_NEARER,
    FIRST_LENGTH_CODE,
    MIN_LENGTH,
)


def unpack(text: str, kind: type) -> np.ndarray:
    """Return packed integers."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if kind is np.uint16:
        high, low = data.reshape(2, -1).astype(np.uint16)
        data = (high << 8 | low).astype(np.uint16)
    return np.cumsum(data, dtype=kind)


def decode_lengths(codes: np.ndarray, step: float) -> np.ndarray:
    """Return metres."""
    values = MIN_LENGTH * np.exp((codes.astype(np.float64) - FIRST_LENGTH_CODE) * step)
    values[codes == CODE_INVALID] = np.nan
    values[codes == CODE_NEARER] = -np.inf
    values[codes == CODE_FARTHER] = np.inf
    return values


def depth_of(sweep: dict) -> np.ndarray:
    """Return the depth (H, W) of a sweep in metres."""
    codes = unpack(sweep['depth']['data'], np.uint16)
    return decode_lengths(codes, sweep['depth']['step']).reshape(sweep['height'], sweep['width'])
