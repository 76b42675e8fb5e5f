# SPDX-License-Identifier: Apache-2.0
"""Rectification: coordinates of the pixels of a pinhole image in the raw camera image."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

import cv2
import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera

PLUMB_BOB = 'plumb_bob'
EQUIDISTANT = 'equidistant'

# Allowed numbers of distortion coefficients; OpenCV's remaining ones are zero.
COEFFICIENT_COUNTS = {
    PLUMB_BOB: (4, 5),
    'rational_polynomial': (5, 8, 12, 14),
    EQUIDISTANT: (4,),
}
# Displacement in pixels below which the blur of resampling outweighs its benefit.
NEGLIGIBLE_SHIFT = 0.05
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class CameraCalibration:
    """Intrinsics and distortion of a raw camera image, as in ``CameraInfo``.

    :param camera: pinhole intrinsics (K) for the pixels of the raw image.
    :param model: distortion model, one of ``COEFFICIENT_COUNTS``.
    :param distortion: distortion coefficients (D) in OpenCV's order; empty for none.
    :param rotation: rectification matrix (R), row by row.
    :param rectified: pinhole camera of the rectified image (P); None: ``camera``.
    :raises ValueError: for an unknown model or a wrong number of coefficients.
    """

    camera: PinholeCamera
    model: str = PLUMB_BOB
    distortion: tuple[float, ...] = ()
    rotation: tuple[float, ...] = _IDENTITY
    rectified: PinholeCamera | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (*self.distortion, *self.rotation)):
            raise ValueError('distortion and rotation must be finite numbers')
        if not any(self.distortion):
            return
        if self.model not in COEFFICIENT_COUNTS:
            raise ValueError(
                f'distortion model {self.model!r} is not supported; '
                f'use one of {", ".join(COEFFICIENT_COUNTS)}'
            )
        if len(self.distortion) not in COEFFICIENT_COUNTS[self.model]:
            counts = ' or '.join(map(str, COEFFICIENT_COUNTS[self.model]))
            raise ValueError(f'{self.model} has {counts} coefficients, got {len(self.distortion)}')

    def resized(self, width: int, height: int) -> CameraCalibration:
        """Return the calibration of the same view at another image size."""
        rectified = self.rectified and self.rectified.resized(width, height)
        return replace(self, camera=self.camera.resized(width, height), rectified=rectified)

    @property
    def output(self) -> PinholeCamera:
        """Pinhole camera of the rectified image."""
        return self.camera if self.rectified is None else self.rectified

    @property
    def is_rectified(self) -> bool:
        """Whether the raw image equals the rectified one."""
        return (
            not any(self.distortion)
            and np.allclose(self.rotation, _IDENTITY, atol=1e-9)
            and self.output == self.camera
        )


@dataclass(frozen=True)
class ViewMapping:
    """Mapping of a raw image (``view``) to the geometry of a pinhole camera (``output``)."""

    view: CameraCalibration
    output: PinholeCamera


def source_coordinates(
    view: CameraCalibration, output: PinholeCamera, motion: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the raw image coordinates of the pixels of a rectified image, for ``cv2.remap``.

    Intrinsics (breathing, zoom, principal point), rotation, distortion and motion are combined, so
    that the image is interpolated once.

    :param view: camera of the raw image; ``view.rectified`` is ignored.
    :param output: pinhole camera of the rectified image.
    :param motion: (3, 3) homography from ``output`` without motion to ``output`` with motion;
        scale and shift only if the view has no distortion.
    :returns: columns and rows as float32: both (H, W), or (W,) and (H,) for a separable mapping;
        None if every displacement is below ``NEGLIGIBLE_SHIFT``.
    """
    rays = _matrix(output)
    if motion is not None:
        rays = np.linalg.inv(motion) @ rays
    if any(view.distortion) or not np.allclose(view.rotation, _IDENTITY, atol=1e-9):
        return _distorted_coordinates(view, rays, (output.width, output.height))
    mapping = _matrix(view.camera) @ np.linalg.inv(rays)
    columns, rows = np.arange(output.width), np.arange(output.height)
    x = mapping[0, 0] * columns + mapping[0, 2]
    y = mapping[1, 1] * rows + mapping[1, 2]
    if max(abs(x - columns).max(), abs(y - rows).max()) < NEGLIGIBLE_SHIFT:
        return None
    return x.astype(np.float32), y.astype(np.float32)


def _distorted_coordinates(
    view: CameraCalibration, rays: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinate maps (H, W) for the rays that the matrix ``rays`` projects to pixels."""
    matrix, rotation = _matrix(view.camera), np.array(view.rotation).reshape(3, 3)
    coefficients = np.array(view.distortion or (0.0,) * 4, dtype=np.float64)
    fisheye = view.model == EQUIDISTANT and coefficients.any()
    undistort = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    return undistort(matrix, coefficients, rotation, rays, size, cv2.CV_32FC1)


def _matrix(camera: PinholeCamera) -> np.ndarray:
    return np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
