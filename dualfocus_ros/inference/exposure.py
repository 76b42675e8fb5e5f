# SPDX-License-Identifier: Apache-2.0
"""Planes that are not equally bright, and pixels that are clipped to white.

A lens that extends to focus near also darkens, by 1 / (1 + m)^2 at magnification m, and automatic
exposure follows what it sees. Both multiply the light of a whole plane, while defocus only moves
light around: means over patches larger than the blur tell the factor.
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
# A stack is called saturated when this share of a plane's pixels is clipped to white.
SATURATED_SHARE = 0.02
# A gain that differs by less is the same, as far as noise and defocus let tell.
EQUAL = 0.01
STRONGEST = 4.0  # more than a difference of two stops is another picture
_PATCH = 16  # px of the small images
_MIN_PATCHES = 12
_DARKEST = 0.004  # linear light; darker patches are the sensor's black level rather than a scene
# The power law of sRGB between its toe and white: e = 1.055 I^(1 / 2.4) - 0.055.
_OFFSET, _EXPONENT = 0.055, 1.0 / 2.4
# A burnt disc has a sharp rim wherever it was focused: pixels this near to one are unsure too.
RIM = 2


@dataclass(frozen=True, eq=False)
class PatchBrightness:
    """How bright a plane is, in patches that are larger than its blur.

    :param light: (h, w) float32 mean linear light.
    :param usable: (h, w) bool, neither dark nor with any clipped pixel.
    """

    light: np.ndarray
    usable: np.ndarray

    @staticmethod
    def of(light: np.ndarray, clipped: np.ndarray | None) -> PatchBrightness:
        """Return the patches of a small image of linear light, (H, W) float32.

        :param clipped: (H', W') uint8 of 0 and 1, clipped pixels of the same view; None for none.
        """
        size = max(light.shape[1] // _PATCH, 1), max(light.shape[0] // _PATCH, 1)
        mean = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        usable = np.asarray(mean > _DARKEST)
        if clipped is not None:
            share = cv2.resize(clipped.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            usable &= np.asarray(share == 0.0)
        return PatchBrightness(np.asarray(mean), usable)


def exposure_gains(patches: Sequence[PatchBrightness], reference: int) -> np.ndarray:
    """Return what to multiply the light of each plane by to make it as bright as the reference.

    The median over patches of the ratio of their means, of patches that are usable in both
    planes. 1 where too few of them are.

    :param patches: of N planes, in common geometry.
    :returns: (N,) float64.
    """
    target = patches[reference]
    gains = np.ones(len(patches))
    for index, plane in enumerate(patches):
        usable = plane.usable & target.usable
        if index == reference or usable.sum() < _MIN_PATCHES:
            continue
        gain = float(np.median(target.light[usable] / plane.light[usable]))
        if abs(math.log(gain)) < math.log(STRONGEST):
            gains[index] = gain
    return gains


class ExposureGainTracker:
    """The gains of the stack before, by focus: what the next one gets while nothing changes.

    A plane can be made as bright as the reference before its stack is complete, and noise does not
    change it from stack to stack. At first all planes are equally bright.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._focus = np.zeros(1)
        self._gains = np.ones(1)

    def at(self, focus: float) -> float:
        """Return the gain at a focus in dioptres, which the lens may not meet exactly again."""
        return float(np.interp(focus, self._focus, self._gains))

    def settle(self, focus: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Return the known gains, or those measured where they differ by ``EQUAL`` or more.

        :param focus: (N,) in dioptres.
        :param measured: (N,) of the same planes.
        """
        known = np.array([self.at(value) for value in focus])
        changed = np.abs(np.log(measured / known)) >= math.log1p(EQUAL)
        gains = np.where(changed, measured, known)
        order = np.argsort(focus, kind='stable')
        self._focus, self._gains = np.asarray(focus, np.float64)[order], gains[order]
        return gains


def apply_gain(image: Tensor, gain: float) -> Tensor:
    """Return an sRGB plane in [0, 1] whose light is multiplied by ``gain``."""
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
    """Tell whether a plane has too much clipped white, from a sparse grid of its pixels."""
    return any(
        mask is not None and float(mask[::8, ::8].mean()) > SATURATED_SHARE for mask in masks
    )


def overexposed_pixels(image: np.ndarray) -> np.ndarray | None:
    """Return where all channels are clipped, and ``RIM`` pixels around it; or None for nowhere."""
    mask = cv2.inRange(image, (CLIPPED_LEVEL,) * 4, (255,) * 4) & 1
    if not mask.any():
        return None
    return cv2.dilate(mask, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))


def inflate_sigma_where_overexposed(prediction: Prediction, burnt: Tensor | None) -> Prediction:
    """Return the prediction with a larger sigma where the planes in focus have lost all contrast.

    Sigma grows with the share of the focus probability that lies on burnt pixels, up to twice
    where all of it does. On simulated scenes of which up to three quarters are burnt, 4 % of the
    errors there were beyond three times the sigma of the network, and 16 % at worst; beyond twice
    that it is 0.5 and 2.4 %.

    :param burnt: (N, H, W) of 0 and 1, or None for no pixel.
    """
    if burnt is None:
        return prediction
    share = (prediction.probability * burnt).sum(dim=1).clamp(0.0, 1.0)
    return replace(prediction, sigma=prediction.sigma * (1.0 + share))
