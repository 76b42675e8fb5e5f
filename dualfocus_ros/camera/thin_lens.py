# SPDX-License-Identifier: Apache-2.0
"""Thin lens: image distance, focus breathing and circle of confusion."""

from __future__ import annotations

from dataclasses import dataclass
import math


@dataclass(frozen=True)
class Lens:
    """Thin lens in front of a sensor.

    :param focal_length: F in metres.
    :param f_number: A, focal length over aperture diameter.
    :param pixel_pitch: distance between pixel centres of the published image, in metres.
    :raises ValueError: for a value that is not a positive finite number.
    """

    focal_length: float
    f_number: float
    pixel_pitch: float

    def __post_init__(self) -> None:
        for name in ('focal_length', 'f_number', 'pixel_pitch'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f'lens {name} must be a positive number, got {value}')

    def image_distance(self, focus_dioptres: float) -> float:
        """Return the lens-to-sensor distance v = F s / (s - F) in metres, s = 1 / focus_dioptres.

        :raises ValueError: for a focus at or inside the focal length.
        """
        shortening = 1.0 - self.focal_length * focus_dioptres
        if shortening <= 0.0:
            raise ValueError(
                f'a lens of {self.focal_length * 1e3:.1f} mm cannot focus at '
                f'{focus_dioptres:.2f} dioptres: the object is inside the focal length'
            )
        return self.focal_length / shortening

    def magnification(self, focus_dioptres: float, reference_dioptres: float) -> float:
        """Return v(s) / v(s_ref), the image scale by focus breathing of a unit-focusing lens."""
        return self.image_distance(focus_dioptres) / self.image_distance(reference_dioptres)

    def focal_length_px(self, focus_dioptres: float) -> float:
        """Return fx = fy in pixels: v(s) / pixel pitch."""
        return self.image_distance(focus_dioptres) / self.pixel_pitch

    def kappa(self, focus_dioptres: float = 0.0) -> float:
        """Return the circle-of-confusion diameter in pixels per dioptre of defocus.

        kappa = (F / A) v(s) / pixel_pitch, from CoC = (F/A) v |1/s - 1/d|.
        """
        aperture = self.focal_length / self.f_number
        return aperture * self.image_distance(focus_dioptres) / self.pixel_pitch

    def coc_diameter(self, focus_dioptres: float, depth_dioptres: float) -> float:
        """Return the diameter of the circle of confusion, in pixels."""
        return self.kappa(focus_dioptres) * abs(focus_dioptres - depth_dioptres)
