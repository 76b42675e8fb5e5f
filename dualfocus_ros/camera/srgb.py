# SPDX-License-Identifier: Apache-2.0
"""The sRGB transfer curve (IEC 61966-2-1): light adds up linearly, stored images do not."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch

_CUT_ENCODED = 0.04045
_CUT_LINEAR = 0.0031308
_CODES = 1 << 13


def srgb_to_linear(encoded: torch.Tensor) -> torch.Tensor:
    """Return linear light in [0, 1] from sRGB values in [0, 1]; any shape."""
    encoded = encoded.clamp(0.0, 1.0)
    power = ((encoded + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= _CUT_ENCODED, encoded / 12.92, power)


def linear_to_srgb(linear: torch.Tensor) -> torch.Tensor:
    """Return sRGB values in [0, 1] from linear light, clipped to [0, 1]; any shape."""
    linear = linear.clamp(0.0, 1.0)
    # The clamp keeps the gradient of the power finite where the line is taken instead.
    power = 1.055 * linear.clamp_min(_CUT_LINEAR) ** (1.0 / 2.4) - 0.055
    return torch.where(linear <= _CUT_LINEAR, linear * 12.92, power)


@lru_cache(maxsize=1)
def _decode_table() -> np.ndarray:
    return srgb_to_linear(torch.arange(256) / 255.0).numpy()


@lru_cache(maxsize=1)
def _encode_table() -> np.ndarray:
    # Indexed by the square root of the light, so that the steep dark end has enough entries.
    light = (torch.arange(_CODES, dtype=torch.float64) / (_CODES - 1)) ** 2
    return (linear_to_srgb(light) * 255.0).round().to(torch.uint8).numpy()


def decode_srgb8(image: np.ndarray) -> np.ndarray:
    """Return float32 linear light of a uint8 sRGB image of any shape."""
    if image.dtype != np.uint8:
        raise ValueError(f'expected a uint8 sRGB image, got {image.dtype}')
    pixels = np.ascontiguousarray(image)
    if not pixels.size:
        return pixels.astype(np.float32)
    # Several times faster than indexing the table.
    light = cv2.LUT(pixels.reshape(len(pixels), -1), _decode_table())
    return np.asarray(light).reshape(image.shape)


def encode_srgb8(linear: np.ndarray) -> np.ndarray:
    """Return the uint8 sRGB image of float linear light, clipped to [0, 1]; any shape.

    By a table, which is about ten times faster than the power; at most one code off.
    """
    root = np.sqrt(np.clip(linear, 0.0, 1.0, dtype=np.float32))
    return _encode_table()[(root * (_CODES - 1) + 0.5).astype(np.uint16)]
