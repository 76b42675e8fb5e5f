# SPDX-License-Identifier: Apache-2.0
"""Image sensor: shot and read noise in linear light, sRGB encoding, 8 bits."""

from __future__ import annotations

import math

import cv2
import numpy as np

from dualfocus_ros.camera.srgb import encode_srgb8

_WHITE_CODE = 24_000


class Sensor:
    """Sensor model that converts linear light to noisy 8-bit images at video rate.

    Codes are variance-stabilized light y = sqrt(I + r^2 / W), with full well W and read noise r
    in electrons: shot noise of variance I / W and read noise of variance r^2 / W^2 become noise
    of the constant standard deviation 1 / (2 sqrt(W)), to first order. So noise is drawn only
    once and added at a random offset.

    :param size: number of values of an image, H * W * 3.
    :param noise: factor on the standard deviation of all noise; 0 for none.
    :param full_well: electrons of a white pixel.
    :param read_noise: standard deviation in electrons.
    :param seed: seed of the noise.
    :raises ValueError: for negative noise or a full well that is not positive.
    """

    def __init__(
        self,
        size: int,
        *,
        noise: float = 1.0,
        full_well: float = 10_000.0,
        read_noise: float = 6.0,
        seed: int = 0,
    ) -> None:
        if noise < 0.0 or full_well <= 0.0 or read_noise < 0.0:
            raise ValueError(
                'sensor noise and read_noise must not be negative and full_well positive, '
                f'got {noise}, {read_noise}, {full_well}'
            )
        self._rng = np.random.default_rng(seed)
        gain = max(noise, 1e-6) ** 2 / full_well
        self._pedestal = read_noise**2 / full_well
        self._scale = _WHITE_CODE / math.sqrt(1.0 + self._pedestal)
        levels = np.arange(32768, dtype=np.float32) / self._scale
        self._table = encode_srgb8(levels**2 - self._pedestal)
        self._size = size
        self._noise: np.ndarray | None = None
        if noise > 0.0:
            drawn = self._rng.standard_normal(2 * size, dtype=np.float32)
            drawn *= 0.5 * math.sqrt(gain) * self._scale
            self._noise = np.rint(drawn).clip(-8000, 8000).astype(np.int16)

    def encode(self, light: np.ndarray) -> np.ndarray:
        """Return the int16 codes of linear light (H, W, 3), clipped to [0, 1]."""
        clipped = np.clip(light, 0.0, 1.0, dtype=np.float32)
        return np.rint(np.sqrt(clipped + self._pedestal) * self._scale).astype(np.int16)

    def expose(self, codes: np.ndarray) -> np.ndarray:
        """Return a (H, W, 3) uint8 sRGB exposure of codes, with random noise."""
        noisy = codes
        if self._noise is not None:
            start = int(self._rng.integers(0, len(self._noise) - self._size + 1))
            noise = self._noise[start : start + self._size].reshape(codes.shape)
            # Saturating addition; the table has entries for noise above white.
            noisy = cv2.add(codes, noise)
        return np.take(self._table, noisy, mode='clip')
