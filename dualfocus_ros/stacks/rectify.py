# SPDX-License-Identifier: Apache-2.0
"""From the calibration that a camera publishes to an undistorted image and its pinhole camera."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
import math

import cv2
import numpy as np

from dualfocus_ros.optics.camera import PinholeCamera

PLUMB_BOB = 'plumb_bob'
RATIONAL_POLYNOMIAL = 'rational_polynomial'
EQUIDISTANT = 'equidistant'

# How many distortion coefficients each model may have; the rest of OpenCV's list is zero.
COEFFICIENTS = {
    PLUMB_BOB: (4, 5),
    RATIONAL_POLYNOMIAL: (5, 8, 12, 14),
    EQUIDISTANT: (4,),
}
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class CameraCalibration:
    """Intrinsics of an image as the sensor delivers it, with lens distortion.

    :param camera: the pinhole part (K of ``CameraInfo``) for the pixels of this very image.
    :param model: one of ``COEFFICIENTS``.
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
        if self.model not in COEFFICIENTS:
            raise ValueError(
                f'distortion model {self.model!r} is not supported; '
                f'use one of {", ".join(COEFFICIENTS)}'
            )
        if len(self.distortion) not in COEFFICIENTS[self.model]:
            counts = ' or '.join(str(n) for n in COEFFICIENTS[self.model])
            raise ValueError(
                f'{self.model} has {counts} coefficients, got {len(self.distortion)}'
            )

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


class Rectifier:
    """Undistorts images; keeps the maps of the last calibrations.

    :param max_bytes: how much memory the maps may take; a lens that breathes has one calibration
        per focus position, so one map per plane.
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._max_bytes = max_bytes
        self._maps: OrderedDict[CameraCalibration, _Map] = OrderedDict()

    def rectify(
        self, image: np.ndarray, calibration: CameraCalibration
    ) -> tuple[np.ndarray, PinholeCamera]:
        """Return the image as the pinhole camera ``calibration.output`` sees it, and that camera.

        Pixels that the camera did not see are black; ``seen`` tells which.

        :param image: (H, W) or (H, W, 3) uint8 of the calibration's size; returned as it is
            where nothing is to be corrected.
        """
        if calibration.is_rectified:
            return image, calibration.output
        found = self._map(calibration)
        rectified = cv2.remap(image, found.columns, found.rows, cv2.INTER_LINEAR)
        return rectified, calibration.output

    def seen(self, calibration: CameraCalibration) -> np.ndarray | None:
        """Return which pixels of the rectified image the camera saw, (H, W) bool.

        :returns: None for all of them; the same array for the same calibration.
        """
        return None if calibration.is_rectified else self._map(calibration).seen

    def _map(self, calibration: CameraCalibration) -> _Map:
        found = self._maps.pop(calibration, None)
        if found is None:
            found = _make_map(calibration)
            while self._maps and found.nbytes * (len(self._maps) + 1) > self._max_bytes:
                self._maps.popitem(last=False)
        self._maps[calibration] = found
        return found


@dataclass(frozen=True, eq=False)
class _Map:
    """Fixed-point maps for ``cv2.remap``, and the pixels that they take from the image."""

    columns: np.ndarray
    rows: np.ndarray
    seen: np.ndarray | None

    @property
    def nbytes(self) -> int:
        seen = 0 if self.seen is None else self.seen.nbytes
        return self.columns.nbytes + self.rows.nbytes + seen


def _make_map(calibration: CameraCalibration) -> _Map:
    columns, rows = _undistortion_map(calibration)
    camera = calibration.camera
    white = np.full((camera.height, camera.width), 255, np.uint8)
    # Black from outside takes part in what is not pure white any more.
    seen = cv2.remap(white, columns, rows, cv2.INTER_LINEAR) == 255
    return _Map(columns, rows, None if seen.all() else seen)


def _undistortion_map(calibration: CameraCalibration) -> tuple[np.ndarray, np.ndarray]:
    """Return fixed-point maps for ``cv2.remap``, three times as fast as floating-point ones."""
    output = calibration.output
    rotation = np.array(calibration.rotation).reshape(3, 3)
    coefficients = np.array(calibration.distortion, dtype=np.float64)
    size = (output.width, output.height)
    if calibration.model == EQUIDISTANT and any(calibration.distortion):
        return cv2.fisheye.initUndistortRectifyMap(
            _matrix(calibration.camera), coefficients, rotation, _matrix(output), size,
            cv2.CV_16SC2,
        )
    return cv2.initUndistortRectifyMap(
        _matrix(calibration.camera), coefficients if coefficients.size else None, rotation,
        _matrix(output), size, cv2.CV_16SC2,
    )


def _matrix(camera: PinholeCamera) -> np.ndarray:
    return np.array(
        [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
    )
