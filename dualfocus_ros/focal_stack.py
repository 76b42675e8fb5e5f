# SPDX-License-Identifier: Apache-2.0
"""The one focal-stack type that every part of the project passes around."""

from __future__ import annotations

from dataclasses import dataclass, field
import enum
import math

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration

MIN_PLANES = 2
MAX_PLANES = 32
# Positions closer than this, in dioptres, are the same: lenses with position sensors report with
# noise of this order, and the planes of no useful sweep are so close.
FOCUS_TOLERANCE = 0.01


class StackFlag(enum.IntFlag):
    """What is not perfect about a stack (bits of ``StackInfo.flags``)."""

    NONE = 0
    PLANE_MISSING = 1
    MOTION = 2
    SATURATED = 4
    PARTIAL = 8

    @property
    def words(self) -> list[str]:
        """The flags that are set, for people."""
        # Not without the first condition: 0 is in every flag, and Python 3.10 names it too.
        return [
            str(flag.name).lower().replace('_', ' ') for flag in StackFlag if flag and flag in self
        ]


@dataclass(frozen=True, eq=False)
class Plane:
    """One image of a focal stack and the distance that it is focused at.

    :param image: (H, W, 3) RGB or (H, W) mono, uint8.
    :param focus_dioptres: inverse focus distance in 1/m; 0 is infinity.
    :param stamp_ns: acquisition time in nanoseconds.
    :param camera: intrinsics of this very image once it is rectified, or None when unknown.
    :param sweep_index: the plane's index in its sweep as the lens driver numbered it.
    :param calibration: what is still to be taken out of the image to make it that of ``camera``;
        None where it is a rectified image.
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
                'a plane must be a uint8 image of shape (H, W) or (H, W, 3), '
                f'got {self.image.dtype} {shape}'
            )
        if self.calibration is not None and self.camera != self.calibration.output:
            raise ValueError(
                'the camera of a plane that is not yet rectified must be the output of its '
                f'calibration, {self.calibration.output}, got {self.camera}'
            )
        if not math.isfinite(self.focus_dioptres):
            raise ValueError(f'focus must be a finite number of dioptres: {self.focus_dioptres}')


@dataclass(frozen=True, eq=False)
class FocalStack:
    """Images of one scene at two or more focus distances, in the order of their stamps.

    :param announced: where planes are missing, the far and the near end in dioptres of the sweep
        as it was to be; None where none is missing or it is not known.
    :raises ValueError: for fewer than 2 or more than 32 planes, planes of different size or
        channel count, or planes that are all focused at the same distance.
    """

    planes: tuple[Plane, ...]
    frame_id: str = ''
    sweep_id: int = 0
    flags: StackFlag = StackFlag.NONE
    assemble_ms: float = field(default=0.0, compare=False)
    sweep_extent: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        count = len(self.planes)
        if not MIN_PLANES <= count <= MAX_PLANES:
            raise ValueError(f'a focal stack has {MIN_PLANES} to {MAX_PLANES} planes, got {count}')
        shapes = {plane.image.shape for plane in self.planes}
        if len(shapes) != 1:
            raise ValueError(f'planes of one stack differ in size: {sorted(shapes)}')
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
        """Index of the plane whose geometry and stamp the depth map takes.

        It is the plane focused nearest: where the lens breathes, it has the narrowest field of
        view, so that every pixel of the depth map is seen in every plane.
        """
        return int(np.argmax(self.focus_dioptres))

    @property
    def truncated_ends(self) -> tuple[bool, bool]:
        """Whether the sweep was to go on beyond the farthest and beyond the nearest plane left."""
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
