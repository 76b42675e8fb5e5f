# SPDX-License-Identifier: Apache-2.0
"""Focal stack: the images of one sweep and the focus of each."""

from __future__ import annotations

from dataclasses import dataclass
import enum
import math

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration

MIN_PLANES = 2
MAX_PLANES = 32
# Focus values closer than this, in dioptres, count as equal: the noise of lens position sensors
# is of this order, and planes of useful sweeps are farther apart.
FOCUS_TOLERANCE = 0.01


class StackFlag(enum.IntFlag):
    """Defects of a stack (bits of ``StackInfo.flags``)."""

    NONE = 0
    PLANE_MISSING = 1
    MOTION = 2
    SATURATED = 4
    PARTIAL = 8

    @property
    def labels(self) -> list[str]:
        """Readable names of the flags that are set."""
        # The first condition excludes NONE, which is in every flag and iterated by Python 3.10.
        return [
            str(flag.name).lower().replace('_', ' ') for flag in StackFlag if flag and flag in self
        ]


@dataclass(frozen=True, eq=False)
class Plane:
    """Image of a focal stack with its focus.

    :param image: (H, W, 3) RGB or (H, W) mono, uint8.
    :param focus_dioptres: inverse focus distance in 1/m; 0 is infinity.
    :param stamp_ns: acquisition time in nanoseconds.
    :param camera: intrinsics of the rectified image at this focus; None if unknown.
    :param sweep_index: index of the plane in its sweep, as numbered by the lens driver.
    :param calibration: calibration of a raw image, with ``camera`` as its output; None for a
        rectified image.
    :raises ValueError: for another image type, a focus that is not finite, or a camera that is
        not the output of the calibration.
    """

    image: np.ndarray
    focus_dioptres: float
    stamp_ns: int = 0
    camera: PinholeCamera | None = None
    sweep_index: int = 0
    calibration: CameraCalibration | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or not (
            len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        ):
            raise ValueError(
                'the image of a plane must be uint8 of shape (H, W) or (H, W, 3), '
                f'got {self.image.dtype} {shape}'
            )
        if self.calibration is not None and self.camera != self.calibration.output:
            raise ValueError(
                'the camera of a raw plane must be the output of its calibration, '
                f'{self.calibration.output}, got {self.camera}'
            )
        if not math.isfinite(self.focus_dioptres):
            raise ValueError(f'focus_dioptres must be a finite number, got {self.focus_dioptres}')


@dataclass(frozen=True, eq=False)
class FocalStack:
    """Images of one scene at two or more focus distances, in the order of their stamps.

    :param planes: 2 to 32 planes of the same size and channel count.
    :param frame_id: coordinate frame of the camera.
    :param sweep_extent: far and near end in dioptres of the complete sweep, if planes are
        missing; None if the stack is complete or the extent is unknown.
    :raises ValueError: for too few or too many planes, different sizes, or a single focus.
    """

    planes: tuple[Plane, ...]
    frame_id: str = ''
    sweep_id: int = 0
    flags: StackFlag = StackFlag.NONE
    sweep_extent: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        count = len(self.planes)
        if not MIN_PLANES <= count <= MAX_PLANES:
            raise ValueError(f'a focal stack has {MIN_PLANES} to {MAX_PLANES} planes, got {count}')
        shapes = {plane.image.shape for plane in self.planes}
        if len(shapes) != 1:
            raise ValueError(
                f'the planes of a stack must not differ in size, got {sorted(shapes)}'
            )
        if len({plane.focus_dioptres for plane in self.planes}) < MIN_PLANES:
            raise ValueError(
                f'all {count} planes are focused at {self.planes[0].focus_dioptres:.3f} dioptres: '
                'depth from focus needs at least 2 different focus distances'
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the planes, in pixels."""
        height, width = self.planes[0].image.shape[:2]
        return height, width

    @property
    def focus_dioptres(self) -> np.ndarray:
        """Focus of each plane in dioptres, float64, in the order of the planes."""
        return np.array([plane.focus_dioptres for plane in self.planes])

    @property
    def reference(self) -> int:
        """Index of the plane that gives the depth map its geometry and stamp.

        The plane focused nearest: with focus breathing it has the narrowest field of view, so
        that every pixel of the depth map is visible in all planes.
        """
        return int(np.argmax(self.focus_dioptres))

    @property
    def truncated_ends(self) -> tuple[bool, bool]:
        """Whether planes are missing beyond the farthest and beyond the nearest plane."""
        if self.sweep_extent is None:
            return False, False
        focus = self.focus_dioptres
        return (
            self.sweep_extent[0] < float(focus.min()) - FOCUS_TOLERANCE,
            self.sweep_extent[1] > float(focus.max()) + FOCUS_TOLERANCE,
        )

    @property
    def sweep_duration_ns(self) -> int:
        """Time from the first to the last plane, in nanoseconds."""
        stamps = [plane.stamp_ns for plane in self.planes]
        return max(stamps) - min(stamps)
