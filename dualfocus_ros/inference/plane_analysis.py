# SPDX-License-Identifier: Apache-2.0
"""Analysis of one plane on the CPU: brightness, clipping and its image for registration."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualfocus_ros.alignment.shift_scale import RegistrationImage, registration_scale
from dualfocus_ros.camera.rectification import ViewMapping, source_coordinates
from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.focal_stack import Plane
from dualfocus_ros.inference.exposure import PatchBrightness, clipped_pixels, overexposed_pixels
from dualfocus_ros.inference.settings import EstimatorSettings


@dataclass(frozen=True, eq=False)
class PlaneAnalysis:
    """Properties of one plane that need no other plane.

    :param brightness: in the reference geometry; None without exposure normalisation.
    :param registration: image for registration, likewise; None with ``alignment='off'``.
    :param clipped: (H, W) uint8, 1 where any channel is clipped to white; None for nowhere.
    :param overexposed: (H, W) uint8, 1 at and next to pixels whose channels are all clipped.
    """

    focus_dioptres: float
    brightness: PatchBrightness | None
    registration: RegistrationImage | None
    clipped: np.ndarray | None
    overexposed: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        parts = self.brightness, self.registration, self.clipped, self.overexposed
        return sum(part.nbytes for part in parts if part is not None)


def analyze_plane(
    plane: Plane, mapping: ViewMapping, settings: EstimatorSettings
) -> PlaneAnalysis:
    """Analyze a plane on a downscaled image."""
    clipped = clipped_pixels(plane.image)
    overexposed = None if clipped is None else overexposed_pixels(plane.image)
    brightness = registration = None
    if settings.alignment != 'off' or settings.normalise_exposure:
        scale = registration_scale(plane.image.shape)
        light = _small_light_image(plane.image, mapping, scale)
        if settings.normalise_exposure:
            brightness = PatchBrightness.measure(light, clipped)
        if settings.alignment != 'off':
            # The square root has nearly uniform steps, as the sRGB code of the image.
            registration = RegistrationImage.from_grey(cv2.sqrt(light) * 255.0, scale)
    return PlaneAnalysis(plane.focus_dioptres, brightness, registration, clipped, overexposed)


def _small_light_image(image: np.ndarray, mapping: ViewMapping, scale: float) -> np.ndarray:
    """Return a small image of linear light, float32 of 0 to 1, in the reference geometry."""
    height, width = image.shape[:2]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    light = decode_srgb8(image)
    if size != (width, height):
        light = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    at = source_coordinates(mapping.view.resized(*size), mapping.output.resized(*size))
    if at is not None:
        x, y = np.meshgrid(*at) if at[0].ndim == 1 else at
        light = cv2.remap(light, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return light
