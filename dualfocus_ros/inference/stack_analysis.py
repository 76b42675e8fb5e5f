# SPDX-License-Identifier: Apache-2.0
"""Analysis of planes and stacks on the CPU: geometry, motion, exposure and clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.alignment.shift_scale import RegistrationImage, registration_scale
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import ViewMapping, source_coordinates
from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.exposure import (
    PatchBrightness,
    clipped_pixels,
    exposure_gains,
    overexposed_pixels,
)
from dualfocus_ros.inference.reference_view import ReferenceView, reference_view
from dualfocus_ros.inference.resampling import SourcePositions
from dualfocus_ros.inference.settings import EstimatorSettings

if TYPE_CHECKING:
    from dualfocus_ros.inference.estimator_cache import EstimatorCache


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


@dataclass(frozen=True, eq=False)
class StackAnalysis:
    """Parameters that align the planes of a stack; sequences are in the order of its planes.

    :param reference: camera of the reference plane.
    :param mappings: mapping of each plane onto the reference plane, without motion.
    :param alignment: measured motion in pixels of the planes; None with ``alignment='off'``.
    :param motion: (3, 3) motion to be corrected; None for a plane at rest.
    :param positions: position of each reference pixel in the plane, all of the above combined.
    :param gains: (N,) factors on linear light.
    :param clipped: and ``overexposed`` as in :class:`PlaneAnalysis`.
    """

    reference: ReferenceView
    mappings: tuple[ViewMapping, ...]
    alignment: Alignment | None
    motion: tuple[np.ndarray | None, ...]
    positions: tuple[SourcePositions, ...]
    gains: np.ndarray
    clipped: tuple[np.ndarray | None, ...]
    overexposed: tuple[np.ndarray | None, ...]

    @property
    def camera(self) -> PinholeCamera | None:
        """Intrinsics of the rectified reference plane, None when no plane has any."""
        return self.reference.output if self.reference.calibrated else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the depth map, in pixels."""
        return self.reference.output.height, self.reference.output.width


def analyze_stack(
    stack: FocalStack, settings: EstimatorSettings, cache: EstimatorCache
) -> StackAnalysis:
    """Estimate motion, exposure and clipping of a stack."""
    reference = reference_view(stack, settings)
    mappings = tuple(reference.mapping(plane, settings) for plane in stack.planes)
    planes = [
        cache.analyze(plane, mapping, settings)
        for plane, mapping in zip(stack.planes, mappings, strict=True)
    ]
    alignment = None
    if settings.alignment != 'off':
        alignment = align(
            [plane.registration for plane in planes if plane.registration is not None],
            stack.focus_dioptres,
            model='shift_scale',
            reference=stack.reference,
            pairs=cache.pairs,
        )
    motion: list[np.ndarray | None] = [None] * len(planes)
    if settings.alignment == 'correct' and alignment is not None:
        motion = [
            None if alignment.is_identity(index) else transform
            for index, transform in enumerate(alignment.transforms)
        ]
    gains = np.ones(len(planes))
    if settings.normalise_exposure:
        brightness = [plane.brightness for plane in planes if plane.brightness is not None]
        gains = exposure_gains(brightness, stack.reference)
    return StackAnalysis(
        reference=reference,
        mappings=mappings,
        alignment=alignment,
        motion=tuple(motion),
        positions=tuple(
            source_coordinates(mapping.view, mapping.output, correction)
            for mapping, correction in zip(mappings, motion, strict=True)
        ),
        gains=gains,
        clipped=tuple(plane.clipped for plane in planes),
        overexposed=tuple(plane.overexposed for plane in planes),
    )
