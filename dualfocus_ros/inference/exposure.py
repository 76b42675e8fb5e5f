# SPDX-License-Identifier: Apache-2.0
"""Exposure differences between planes, and overexposed pixels.

A lens that extends to focus near also darkens, by 1 / (1 + m)^2 at magnification m, and automatic
exposure follows the content. Both multiply the light of a whole plane, while defocus only moves
light: the ratio of means over patches larger than the blur measures the factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math

import cv2
import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.models.dualfocus import Prediction

CLIPPED_LEVEL = 254
# A stack counts as saturated when this share of a plane's pixels is clipped to white.
SATURATED_SHARE = 0.02
# Noise and defocus limit the precision of a measured gain to about 1 %.
GAIN_TOLERANCE = 0.01
MAX_GAIN = 4.0  # a difference of more than two stops is a change of the scene
# Dilation of overexposed pixels: such a disc has a sharp rim wherever it was focused.
OVEREXPOSED_RIM = 2
_GAIN_STEP = 2.0 * math.log1p(GAIN_TOLERANCE)
_PATCH = 16  # px of the small images
_MIN_PATCHES = 12
_MIN_LIGHT = 0.004  # linear; darker patches show the sensor's black level rather than the scene
# The power law of sRGB between its toe and white: e = 1.055 I^(1 / 2.4) - 0.055.
_OFFSET, _EXPONENT = 0.055, 1.0 / 2.4


@dataclass(frozen=True, eq=False)
class PatchBrightness:
    """Brightness of a plane in patches that are larger than its blur.

    :param light: (h, w) float32 mean linear light.
    :param usable: (h, w) bool, neither dark nor with any clipped pixel.
    """

    light: np.ndarray
    usable: np.ndarray

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.light.nbytes + self.usable.nbytes

    @staticmethod
    def measure(light: np.ndarray, clipped: np.ndarray | None) -> PatchBrightness:
        """Measure linear light, (H, W) float32; ``clipped`` may have another size."""
        size = max(light.shape[1] // _PATCH, 1), max(light.shape[0] // _PATCH, 1)
        mean = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        usable = np.asarray(mean > _MIN_LIGHT)
        if clipped is not None:
            share = cv2.resize(clipped.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            usable &= np.asarray(share == 0.0)
        return PatchBrightness(np.asarray(mean), usable)


def exposure_gains(planes: Sequence[PatchBrightness], reference: int) -> np.ndarray:
    """Return the factor on the light of each plane that matches it to the reference plane.

    The median over patches of the ratio of their means, for patches that are usable in both
    planes, rounded by :func:`round_gain`. 1 where too few are.

    :param planes: brightness of N planes in the reference geometry.
    :returns: (N,) float64.
    """
    target = planes[reference]
    gains = np.ones(len(planes))
    for index, plane in enumerate(planes):
        usable = plane.usable & target.usable
        if index == reference or usable.sum() < _MIN_PATCHES:
            continue
        gain = float(np.median(target.light[usable] / plane.light[usable]))
        if abs(math.log(gain)) < math.log(MAX_GAIN):
            gains[index] = round_gain(gain)
    return gains


def round_gain(gain: float) -> float:
    """Round a gain to the nearest power of 1.01^2, an error of at most ``GAIN_TOLERANCE``.

    Noise rarely changes a rounded gain from stack to stack, so that planes encoded with a
    predicted gain can be reused; within 1 % of 1 no gain is applied.
    """
    return math.exp(round(math.log(gain) / _GAIN_STEP) * _GAIN_STEP)


def apply_gain(image: Tensor, gain: float) -> Tensor:
    """Multiply the linear light of an sRGB image in [0, 1] by ``gain``."""
    if gain == 1.0:
        return image
    factor = gain**_EXPONENT
    return torch.add(image * factor, _OFFSET * (factor - 1.0)).clamp_(0.0, 1.0)


def clipped_pixels(image: np.ndarray) -> np.ndarray | None:
    """Return where any channel of an 8-bit image is clipped, (H, W) uint8 of 0 and 1, or None."""
    below = CLIPPED_LEVEL - 1
    mask = cv2.inRange(image, (0,) * 4, (below,) * 4) ^ 255
    return mask & 1 if mask.any() else None


def is_saturated(masks: Sequence[np.ndarray | None]) -> bool:
    """Return whether a plane has too many clipped pixels, from a sparse grid."""
    return any(
        mask is not None and float(mask[::8, ::8].mean()) > SATURATED_SHARE for mask in masks
    )


def overexposed_pixels(image: np.ndarray) -> np.ndarray | None:
    """Return where all channels are clipped, dilated by ``OVEREXPOSED_RIM``.

    :returns: (H, W) uint8 of 0 and 1, or None for nowhere.
    """
    mask = cv2.inRange(image, (CLIPPED_LEVEL,) * 4, (255,) * 4) & 1
    if not mask.any():
        return None
    size = 2 * OVEREXPOSED_RIM + 1
    return cv2.dilate(mask, np.ones((size, size), np.uint8))


def inflate_sigma_where_overexposed(prediction: Prediction, overexposed: Tensor) -> Prediction:
    """Increase sigma where the planes in focus have lost all contrast.

    Sigma grows with the share of the focus probability on overexposed pixels, up to twice its
    value. On simulated scenes of which up to three quarters are overexposed, 4 % of the errors
    there exceeded three times the sigma of the network, and 16 % at worst; with this factor
    0.5 % and 2.4 % do.

    :param overexposed: (N, H, W) of 0 and 1.
    """
    share = (prediction.probability * overexposed).sum(dim=1).clamp(0.0, 1.0)
    return replace(prediction, sigma=prediction.sigma * (1.0 + share))
