# SPDX-License-Identifier: Apache-2.0
"""Geometry of the reference plane, and the mapping of other planes onto it."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import NEGLIGIBLE_SHIFT, CameraCalibration, ViewMapping
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.settings import EstimatorSettings


@dataclass(frozen=True)
class ReferenceView:
    """Camera of the reference plane, whose geometry all planes are resampled to.

    :param stored: camera of the image as stored, or a placeholder without intrinsics.
    :param output: camera of the rectified image, or the same placeholder.
    :param calibrated: whether ``stored`` and ``output`` are intrinsics rather than placeholders.
    :param focus_dioptres: focus of the plane.
    """

    stored: CameraCalibration
    output: PinholeCamera
    calibrated: bool
    focus_dioptres: float

    def mapping(self, plane: Plane, settings: EstimatorSettings) -> ViewMapping:
        """Return the mapping of a plane onto the reference plane, without motion.

        With a breathing model, the camera of each plane is that of the reference plane, scaled
        and shifted by the model. Without one, it is the camera that came with the image.

        Scale and shift of the model are rounded to ``NEGLIGIBLE_SHIFT``: focus positions that
        differ by sensor noise give equal mappings, so that cached results can be reused.
        """
        view = _stored_camera(plane) if plane.camera is not None else None
        if view is not None and settings.breathing == 'none':
            return ViewMapping(view, self.output)
        camera = _with_breathing(
            self.stored.camera, self.focus_dioptres, plane.focus_dioptres, settings, rounded=True
        )
        return ViewMapping(replace(view or self.stored, camera=camera), self.output)


def reference_view(stack: FocalStack, settings: EstimatorSettings) -> ReferenceView:
    """Return the camera of the stack's reference plane.

    Intrinsics of another plane are converted if the reference plane has none.
    """
    reference = stack.planes[stack.reference]
    for plane in (reference, *stack.planes):
        if plane.camera is None:
            continue
        stored, output = _stored_camera(plane), plane.camera
        if plane is not reference:
            focus = plane.focus_dioptres, reference.focus_dioptres
            stored = replace(stored, camera=_with_breathing(stored.camera, *focus, settings))
            output = _with_breathing(output, *focus, settings)
        return ReferenceView(stored, output, True, reference.focus_dioptres)
    height, width = stack.size
    # Without intrinsics only ratios count: the focal length is arbitrary.
    camera = PinholeCamera.centred(width, height, width)
    return ReferenceView(CameraCalibration(camera), camera, False, reference.focus_dioptres)


def _stored_camera(plane: Plane) -> CameraCalibration:
    assert plane.camera is not None
    return plane.calibration or CameraCalibration(plane.camera)


def _with_breathing(
    camera: PinholeCamera,
    focus: float,
    other: float,
    settings: EstimatorSettings,
    *,
    rounded: bool = False,
) -> PinholeCamera:
    """Convert intrinsics at a focus in dioptres to those at another focus.

    :param rounded: whether scale and shift are rounded to steps that displace no pixel by more
        than ``NEGLIGIBLE_SHIFT``.
    """
    scale = settings.image_scale(other) / settings.image_scale(focus)
    shift = [step * camera.width for step in settings.centre_shift(other - focus)]
    if rounded:
        scale_step = NEGLIGIBLE_SHIFT / (0.5 * math.hypot(camera.width, camera.height))
        scale = 1.0 + round((scale - 1.0) / scale_step) * scale_step
        shift = [round(pixels / NEGLIGIBLE_SHIFT) * NEGLIGIBLE_SHIFT for pixels in shift]
    return replace(camera.magnified(scale), cx=camera.cx + shift[0], cy=camera.cy + shift[1])
