# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera model of a rectified image."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of a rectified image, in pixels; optical frame (x right, y down, z forward).

    Pixel centres have integer coordinates, as in ``sensor_msgs/CameraInfo``.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'camera size must be positive, got {self.width}x{self.height}')
        if not (self.fx > 0.0 and self.fy > 0.0):
            got = f'got fx={self.fx}, fy={self.fy}'
            raise ValueError(
                f'focal lengths must be positive, {got}: the camera is not calibrated'
            )
        if not all(math.isfinite(v) for v in (self.fx, self.fy, self.cx, self.cy)):
            raise ValueError('camera intrinsics must be finite')

    @classmethod
    def centred(cls, width: int, height: int, focal_length: float) -> PinholeCamera:
        """Return a camera with fx = fy in pixels and the principal point in the image centre."""
        centre = 0.5 * (width - 1), 0.5 * (height - 1)
        return cls(width, height, focal_length, focal_length, *centre)

    def resized(self, width: int, height: int) -> PinholeCamera:
        """Return the camera of the same view at another image size."""
        sx, sy = width / self.width, height / self.height
        # The image corner, half a pixel outside the first pixel centre, stays in place.
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return PinholeCamera(width, height, self.fx * sx, self.fy * sy, cx, cy)

    def magnified(self, factor: float) -> PinholeCamera:
        """Return the camera magnified about the principal point, as by focus breathing."""
        return replace(self, fx=self.fx * factor, fy=self.fy * factor)
