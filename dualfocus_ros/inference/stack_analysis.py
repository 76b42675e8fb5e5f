# SPDX-License-Identifier: Apache-2.0
"""From the images of a stack as the camera delivers them to what the network takes.

What separates a plane from the reference plane (lens distortion, binning and region of interest,
focus breathing, motion) is composed into one map, so that each plane is interpolated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.alignment.shift_scale import PairCache, RegistrationImage, registration_scale
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration, ViewMapping, source_coordinates
from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, FocalStack, Plane
from dualfocus_ros.inference import exposure, resampling
from dualfocus_ros.inference.plane_cache import PlaneCache
from dualfocus_ros.inference.settings import EstimatorSettings

# Bytes: more glances than a stack has planes, however large these are.
_MEMORY = 1 << 28


@dataclass(frozen=True)
class ReferenceView:
    """The camera of the reference plane, which all planes are brought to.

    :param stored: of the plane's image as it is stored, or a stand-in without intrinsics.
    :param output: of the rectified image, or the same stand-in.
    :param known: whether these are intrinsics at all.
    :param focus: of the plane, in dioptres.
    """

    stored: CameraCalibration
    output: PinholeCamera
    known: bool
    focus: float

    def view(self, plane: Plane, settings: EstimatorSettings) -> CameraCalibration:
        """Return the camera of a plane's image as it is stored.

        With a model of breathing, all images are those of the reference plane's camera, scaled
        and shifted by the model. Without one, each has the intrinsics that came with it.
        """
        view = _stored(plane) if plane.camera is not None else None
        if view is not None and settings.breathing == 'none':
            return view
        breathed = _breathed(self.stored.camera, self.focus, plane.focus_dioptres, settings)
        return replace(view or self.stored, camera=breathed)


@dataclass(frozen=True, eq=False)
class PlaneAnalysis:
    """What one plane shows without the others.

    :param focus: of the plane, in dioptres.
    :param patches: how bright it is, in the reference geometry; None where nobody asks.
    :param look: the same view as motion is estimated on it; None where nobody asks.
    :param clipped: where a channel is clipped, (H, W) uint8; None for nowhere.
    :param burnt: where all channels are, or nearly so.
    """

    focus: float
    patches: exposure.PatchBrightness | None
    look: RegistrationImage | None
    clipped: np.ndarray | None
    burnt: np.ndarray | None

    @property
    def memory(self) -> int:
        """Bytes."""
        patches = self.patches
        bright = () if patches is None else (patches.light, patches.usable)
        arrays = self.clipped, self.burnt, self.look, *bright
        return sum(array.nbytes for array in arrays if array is not None)


class AnalysisCache:
    """What was seen in planes that several stacks share, or before their stack was complete."""

    def __init__(self) -> None:
        self.glances: PlaneCache[PlaneAnalysis] = PlaneCache(_MEMORY)
        self.pairs = PairCache()
        self.gains = exposure.ExposureGainTracker()

    def glance(
        self, plane: Plane, mapping: ViewMapping, settings: EstimatorSettings
    ) -> PlaneAnalysis:
        """Look at a plane, once."""
        found = self.glances.find(plane.image, mapping)
        if found is None or not _suffices(found, settings):
            found = analyze_plane(plane, mapping, settings)
            self.glances.add(plane.image, mapping, found)
        return found

    def foresee(self, plane: Plane, mapping: ViewMapping, settings: EstimatorSettings) -> None:
        """Look at a plane before its stack is complete, and at how it lies to the others."""
        self.glance(plane, mapping, settings)
        if settings.alignment == 'off':
            return
        glances = _newest(g for g in self.glances.planes() if g.look is not None)
        if len(glances) > 1:
            # Only what it leaves in the memory is wanted.
            looks = [glance.look for glance in glances if glance.look is not None]
            focus = np.array([glance.focus for glance in glances])
            align(looks, focus, model='shift_scale', pairs=self.pairs)

    def finish(self, stack: FocalStack) -> None:
        """Forget what no stack after this one can need."""
        self.glances.finish([plane.image for plane in stack.planes])
        self.pairs.retain(g.look for g in self.glances.planes() if g.look is not None)

    def clear(self) -> None:
        """Forget everything."""
        self.glances.clear()
        self.pairs.retain(())
        self.gains.clear()


@dataclass(frozen=True, eq=False)
class StackAnalysis:
    """What the images of a stack say about their geometry and brightness.

    :param reference: the camera that all planes are brought to.
    :param views: the camera of each plane's image as it is stored.
    :param motion: None where it was not asked for.
    :param corrections: what of it is to be taken out of each plane, (3, 3) or None for nothing.
    :param gains: (N,) what to multiply the light of each plane by.
    :param clipped: where a channel of each plane is clipped, (H, W) uint8; None for nowhere.
    :param burnt: where all channels are, or nearly so.
    """

    reference: ReferenceView
    views: tuple[CameraCalibration, ...]
    motion: Alignment | None
    corrections: tuple[np.ndarray | None, ...]
    gains: np.ndarray
    clipped: tuple[np.ndarray | None, ...]
    burnt: tuple[np.ndarray | None, ...]

    @property
    def camera(self) -> PinholeCamera | None:
        """Intrinsics of the rectified reference plane, None when no plane has any."""
        return self.reference.output if self.reference.known else None

    def static_mapping(self, index: int) -> ViewMapping | None:
        """Return what a plane is mapped by; None if it had moved."""
        if self.corrections[index] is not None:
            return None
        return ViewMapping(self.views[index], self.reference.output)


@dataclass(frozen=True, eq=False)
class AlignedStack:
    """Planes in the geometry of the reference plane.

    :param images: (3, H, W) float32 in [0, 1] each; None where none was given.
    :param seen: (H, W) bool, the pixels that all planes saw; None for all.
    :param burnt: (N, H, W) float32, 1 where a plane is burnt or nearly so; None for nowhere.
    """

    images: list[Tensor | None]
    seen: Tensor | None
    burnt: Tensor | None


def analyze_stack(
    stack: FocalStack, settings: EstimatorSettings, memory: AnalysisCache | None = None
) -> StackAnalysis:
    """Look at the images of a stack; on the processor, for it takes small images only.

    :param memory: of what was seen before; learns from this stack.
    """
    memory = AnalysisCache() if memory is None else memory
    reference = reference_view(stack, settings)
    views = tuple(reference.view(plane, settings) for plane in stack.planes)
    glances = [
        memory.glance(plane, ViewMapping(view, reference.output), settings)
        for plane, view in zip(stack.planes, views, strict=True)
    ]
    motion, gains = None, np.ones(len(stack.planes))
    looks = [glance.look for glance in glances if glance.look is not None]
    if settings.alignment != 'off':
        motion = align(
            looks,
            stack.focus_dioptres,
            model='shift_scale',
            reference=stack.reference,
            pairs=memory.pairs,
        )
    if settings.normalise_exposure:
        patches = [glance.patches for glance in glances if glance.patches is not None]
        measured = exposure.exposure_gains(patches, stack.reference)
        gains = memory.gains.settle(stack.focus_dioptres, measured)
    corrections: tuple[np.ndarray | None, ...] = (None,) * len(views)
    if settings.alignment == 'correct' and motion is not None:
        rest = np.eye(3)
        corrections = tuple(None if np.array_equal(t, rest) else t for t in motion.transforms)
    clipped = tuple(glance.clipped for glance in glances)
    burnt = tuple(glance.burnt for glance in glances)
    return StackAnalysis(reference, views, motion, corrections, gains, clipped, burnt)


def _newest(glances: Iterable[PlaneAnalysis]) -> list[PlaneAnalysis]:
    """Return the last one at each focus: no stack has two of them."""
    kept: list[PlaneAnalysis] = []
    for glance in glances:
        kept = [old for old in kept if abs(old.focus - glance.focus) > FOCUS_TOLERANCE]
        kept.append(glance)
    return kept


def _suffices(glance: PlaneAnalysis, settings: EstimatorSettings) -> bool:
    motion, gains = settings.alignment != 'off', settings.normalise_exposure
    return (glance.look is not None or not motion) and (glance.patches is not None or not gains)


def analyze_plane(
    plane: Plane, mapping: ViewMapping, settings: EstimatorSettings
) -> PlaneAnalysis:
    clipped = exposure.clipped_pixels(plane.image)
    burnt = None if clipped is None else exposure.overexposed_pixels(plane.image)
    patches = look = None
    if settings.alignment != 'off' or settings.normalise_exposure:
        light = _small_light(plane.image, mapping)
        if settings.normalise_exposure:
            patches = exposure.PatchBrightness.of(light, clipped)
        if settings.alignment != 'off':
            # The square root is about as even in its steps as the code of the image.
            look = RegistrationImage.from_grey(
                cv2.sqrt(light) * 255.0, registration_scale(plane.image.shape)
            )
    return PlaneAnalysis(plane.focus_dioptres, patches, look, clipped, burnt)


def resample_stack(
    images: Sequence[Tensor | None],
    found: StackAnalysis,
    device: torch.device,
    *,
    with_overexposed: bool,
) -> AlignedStack:
    """Resample the planes and make them equally bright.

    :param images: (3, H, W) each, as ``geometry.to_tensor`` returns them; None for planes that
        are not wanted.
    :param with_burnt: whether the burnt pixels are wanted.
    """
    output = found.reference.output
    size = output.height, output.width
    positions = [
        source_coordinates(view, output, correction)
        for view, correction in zip(found.views, found.corrections, strict=True)
    ]
    resampled: list[Tensor | None] = []
    for image, position, gain in zip(images, positions, found.gains, strict=True):
        if image is not None:
            image = exposure.apply_gain(resampling.resample_plane(image, position), float(gain))
        resampled.append(image)
    burnt = None
    if with_overexposed and any(mask is not None for mask in found.burnt):
        burnt = torch.zeros(len(images), *size, device=device)
        for mask, position, plane in zip(found.burnt, positions, burnt, strict=True):
            if mask is not None:
                moved = torch.from_numpy(mask).to(burnt)[None]
                plane.copy_(resampling.resample_plane(moved, position, 'nearest')[0])
    return AlignedStack(resampled, resampling.common_valid_mask(positions, size, device), burnt)


def prepare_one(image: Tensor, mapping: ViewMapping, gain: float) -> Tensor:
    """Do with one plane, (3, H, W), what :func:`resample_stack` does where nothing has moved."""
    positions = source_coordinates(mapping.view, mapping.output)
    return exposure.apply_gain(resampling.resample_plane(image, positions), gain)


def reference_view(stack: FocalStack, settings: EstimatorSettings) -> ReferenceView:
    """Return the camera of the reference plane."""
    focus = stack.planes[stack.reference].focus_dioptres
    reference = _calibrated(stack, settings)
    if reference is None:
        height, width = stack.size
        # Without intrinsics only ratios count: any focal length will do.
        camera = PinholeCamera(width, height, width, width, 0.5 * (width - 1), 0.5 * (height - 1))
        return ReferenceView(CameraCalibration(camera), camera, False, focus)
    assert reference.camera is not None
    return ReferenceView(_stored(reference), reference.camera, True, focus)


def _stored(plane: Plane) -> CameraCalibration:
    """Return the camera of a plane's image as it is stored."""
    if plane.calibration is not None:
        return plane.calibration
    assert plane.camera is not None
    return CameraCalibration(plane.camera)


def _calibrated(stack: FocalStack, settings: EstimatorSettings) -> Plane | None:
    """Return the reference plane with intrinsics; None where no plane has any.

    Another plane's, at the focus of the reference plane, are the next best thing.
    """
    reference = stack.planes[stack.reference]
    for plane in (reference, *stack.planes):
        if plane.camera is None:
            continue
        if plane is reference:
            return plane
        focus = plane.focus_dioptres, reference.focus_dioptres
        calibration = plane.calibration
        if calibration is not None:
            calibration = replace(
                calibration, camera=_breathed(calibration.camera, *focus, settings)
            )
        return replace(
            reference, camera=_breathed(plane.camera, *focus, settings), calibration=calibration
        )
    return None


def _breathed(
    camera: PinholeCamera, focus: float, other: float, settings: EstimatorSettings
) -> PinholeCamera:
    """Return the camera at a focus of ``other`` dioptres that is ``camera`` at ``focus``."""
    scaled = camera.magnified(settings.image_scale(other) / settings.image_scale(focus))
    dx, dy = settings.centre_shift(other - focus)
    return replace(scaled, cx=camera.cx + dx * camera.width, cy=camera.cy + dy * camera.width)


def _small_light(image: np.ndarray, mapping: ViewMapping) -> np.ndarray:
    """Return a small image of linear light, float32 of 0 to 1, in the reference geometry."""
    height, width = image.shape[:2]
    factor = registration_scale((height, width))
    size = max(round(width * factor), 1), max(round(height * factor), 1)
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
