# SPDX-License-Identifier: Apache-2.0
"""Where the pixels of an undistorted pinhole image lie in the image that a camera delivers."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

import cv2
import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera

PLUMB_BOB = 'plumb_bob'
RATIONAL_POLYNOMIAL = 'rational_polynomial'
EQUIDISTANT = 'equidistant'

# How many distortion coefficients each model may have; the rest of OpenCV's list is zero.
COEFFICIENT_COUNTS = {
    PLUMB_BOB: (4, 5),
    RATIONAL_POLYNOMIAL: (5, 8, 12, 14),
    EQUIDISTANT: (4,),
}
# Below this displacement, in pixels, resampling blurs more than it mends.
NEGLIGIBLE_SHIFT = 0.05
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class CameraCalibration:
    """Intrinsics of an image as the sensor delivers it, with lens distortion.

    :param camera: the pinhole part (K of ``CameraInfo``) for the pixels of this very image.
    :param model: one of ``COEFFICIENT_COUNTS``.
    :param distortion: the coefficients of the model, in OpenCV's order; empty for none.
    :param rotation: R of ``CameraInfo``, row by row.
    :param rectified: the pinhole camera of the rectified image (P of ``CameraInfo``).
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
            counts = ' or '.join(str(n) for n in COEFFICIENT_COUNTS[self.model])
            raise ValueError(f'{self.model} has {counts} coefficients, got {len(self.distortion)}')

    def resized(self, width: int, height: int) -> CameraCalibration:
        """Return the calibration of the same view, sampled with another number of pixels."""
        rectified = self.rectified
        if rectified is not None:
            rectified = rectified.resized(width, height)
        return replace(self, camera=self.camera.resized(width, height), rectified=rectified)

    @property
    def output(self) -> PinholeCamera:
        """The pinhole camera of the rectified image."""
        return self.camera if self.rectified is None else self.rectified

    @property
    def is_rectified(self) -> bool:
        """Whether the image needs no resampling to be that of ``output``."""
        return (
            not any(self.distortion)
            and np.allclose(self.rotation, _IDENTITY, atol=1e-9)
            and self.output == self.camera
        )


@dataclass(frozen=True)
class ViewMapping:
    """What brings an image into the geometry of another camera.

    :param view: the camera of the image.
    :param output: the pinhole camera that it is brought to.
    """

    view: CameraCalibration
    output: PinholeCamera

    def close_to(self, other: ViewMapping, tolerance: float) -> bool:
        """Tell whether no pixel moves by more than ``tolerance`` between the two.

        Mappings with different distortion or rotation are never close.
        """
        mine, others = self.view, other.view
        if (mine.model, mine.distortion, mine.rotation) != (
            others.model,
            others.distortion,
            others.rotation,
        ) or (self.output.width, self.output.height) != (other.output.width, other.output.height):
            return False
        corners = np.array([[0, 0, 1], [self.output.width, self.output.height, 1]], np.float64).T
        places = [
            _matrix(m.view.camera) @ np.linalg.inv(_matrix(m.output)) @ corners
            for m in (self, other)
        ]
        return float(np.abs(places[0] - places[1]).max()) <= tolerance


def source_coordinates(
    view: CameraCalibration, output: PinholeCamera, motion: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where the pixels of a rectified image lie in an image as its sensor delivers it.

    Everything that separates the two in one step, so that the image is interpolated once: the
    change of intrinsics from ``output`` to ``view`` (breathing, zoom, principal point), the
    rotation, the lens distortion and the motion.

    :param view: the camera of the image; its ``rectified`` is not looked at.
    :param output: the pinhole camera of the rectified image.
    :param motion: (3, 3); what ``output`` sees at x without motion is at ``motion`` x. Scale and
        shift where the view has no distortion.
    :returns: columns and rows as float32, both (H, W) or, where lines of pixels stay parallel to
        the axes, (W,) and (H,); None where no pixel moves by more than ``NEGLIGIBLE_SHIFT``.
    """
    rays = _matrix(output)
    if motion is not None:
        rays = np.linalg.inv(motion) @ rays
    if any(view.distortion) or not np.allclose(view.rotation, _IDENTITY, atol=1e-9):
        return _distorted_positions(view, rays, (output.width, output.height))
    mapping = _matrix(view.camera) @ np.linalg.inv(rays)
    columns, rows = np.arange(output.width), np.arange(output.height)
    x = mapping[0, 0] * columns + mapping[0, 2]
    y = mapping[1, 1] * rows + mapping[1, 2]
    if max(abs(x - columns).max(), abs(y - rows).max()) < NEGLIGIBLE_SHIFT:
        return None
    return x.astype(np.float32), y.astype(np.float32)


def _distorted_positions(
    view: CameraCalibration, rays: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return maps (H, W) for the rays through the pixels, ``rays`` being what projects them."""
    rotation = np.array(view.rotation).reshape(3, 3)
    coefficients = np.array(view.distortion, dtype=np.float64)
    if view.model == EQUIDISTANT and coefficients.any():
        return cv2.fisheye.initUndistortRectifyMap(
            _matrix(view.camera), coefficients, rotation, rays, size, cv2.CV_32FC1
        )
    return cv2.initUndistortRectifyMap(
        _matrix(view.camera),
        coefficients if coefficients.size else None,
        rotation,
        rays,
        size,
        cv2.CV_32FC1,
    )


def _matrix(camera: PinholeCamera) -> np.ndarray:
    return np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
