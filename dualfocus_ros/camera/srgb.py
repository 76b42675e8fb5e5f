# SPDX-License-Identifier: Apache-2.0
"""sRGB transfer function (IEC 61966-2-1)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch

_LINEAR_THRESHOLD = 0.0031308
_TABLE_SIZE = 1 << 13


def srgb_to_linear(encoded: torch.Tensor) -> torch.Tensor:
    """Return linear light in [0, 1] from sRGB values in [0, 1]; any shape."""
    encoded = encoded.clamp(0.0, 1.0)
    power = ((encoded + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, power)


def linear_to_srgb(linear: torch.Tensor) -> torch.Tensor:
    """Return sRGB values in [0, 1] from linear light, clipped to [0, 1]; any shape."""
    linear = linear.clamp(0.0, 1.0)
    # The clamp keeps the gradient of the power finite in the linear part.
    power = 1.055 * linear.clamp_min(_LINEAR_THRESHOLD) ** (1.0 / 2.4) - 0.055
    return torch.where(linear <= _LINEAR_THRESHOLD, linear * 12.92, power)


@lru_cache
def _decode_table() -> np.ndarray:
    return srgb_to_linear(torch.arange(256) / 255.0).numpy()


@lru_cache(maxsize=1)
def _encode_table() -> np.ndarray:
    # Indexed by the square root of the light: more entries at the steep dark end.
    light = (torch.arange(_TABLE_SIZE, dtype=torch.float64) / (_TABLE_SIZE - 1)) ** 2
    return (linear_to_srgb(light) * 255.0).round().to(torch.uint8).numpy()


def decode_srgb8(image: np.ndarray) -> np.ndarray:
    """Return float32 linear light of a uint8 sRGB image of any shape."""
    if image.dtype != np.uint8:
        raise ValueError(f'expected a uint8 sRGB image, got {image.dtype}')
    pixels = np.ascontiguousarray(image)
    if not pixels.size:
        return pixels.astype(np.float32)
    # cv2.LUT is several times faster than NumPy indexing.
    light = cv2.LUT(pixels.reshape(len(pixels), -1), _decode_table())
    return np.asarray(light).reshape(image.shape)


def encode_srgb8(linear: np.ndarray) -> np.ndarray:
    """Return the uint8 sRGB image of float linear light, clipped to [0, 1]; any shape.

    Table look-up, about ten times faster than the power; at most one code off.
    """
    root = np.sqrt(np.clip(linear, 0.0, 1.0, dtype=np.float32))
    return _encode_table()[(root * (_TABLE_SIZE - 1) + 0.5).astype(np.uint16)]
