# SPDX-License-Identifier: Apache-2.0
"""Small contrast-normalised images of planes, for registration by shift and scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from dualfocus_ros.alignment import registration

SIDE = 320  # px; longer side of the images that motion is estimated on


@dataclass(frozen=True, eq=False)
class NormalisedImage:
    """Image of normalised local contrast.

    :param pixels: (H, W) float32.
    """

    pixels: np.ndarray

    @cached_property
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradients along x and y, shared by the registrations with each neighbour."""
        kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
        return cv2.filter2D(self.pixels, -1, kernel), cv2.filter2D(self.pixels, -1, kernel.T)


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """Plane prepared for registration.

    :param fine: at ``scale`` times the size of the plane.
    :param coarse: at half that size.
    """

    fine: NormalisedImage
    coarse: NormalisedImage
    scale: float

    @staticmethod
    def from_grey(image: np.ndarray, scale: float = 1.0) -> RegistrationImage:
        """Prepare a grey image, (H, W) float32 of 0 to 255.

        :param scale: size of the image over that of the plane.
        """
        half = registration.downscale(image, 0.5)
        fine, coarse = (NormalisedImage(registration.normalise_contrast(x)) for x in (image, half))
        return RegistrationImage(fine, coarse, scale)

    @staticmethod
    def from_plane(image: np.ndarray) -> RegistrationImage:
        """Prepare a plane, (H, W) or (H, W, 3) uint8."""
        scale = registration_scale(image.shape)
        return RegistrationImage.from_grey(
            registration.downscale(registration.to_grey(image), scale), scale
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of ``fine``."""
        return self.fine.pixels.shape

    @property
    def nbytes(self) -> int:
        """Memory, gradients included."""
        return 3 * (self.fine.pixels.nbytes + self.coarse.pixels.nbytes)


def registration_scale(shape: tuple[int, ...]) -> float:
    """Return the scale at which planes of this shape are registered."""
    return min(1.0, SIDE / max(shape[:2]))
