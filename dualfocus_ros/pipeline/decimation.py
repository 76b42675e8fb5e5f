# SPDX-License-Identifier: Apache-2.0
"""Planes shrunk by a whole factor before anything else is done with them.

Half the resolution costs a quarter of the time. What is averaged is light: a texture that is as
fine as a pixel must not get darker where it is in focus than where it is blurred.
"""

from __future__ import annotations

from dataclasses import replace
import weakref

import cv2
import numpy as np

from dualfocus_ros.optics.camera import PinholeCamera
from dualfocus_ros.optics.colour import decode_srgb8, encode_srgb8
from dualfocus_ros.stacks.types import FocalStack, Plane

_LIGHT = decode_srgb8(np.arange(256, dtype=np.uint8))


class Decimation:
    """Shrinks planes, each once however many stacks it belongs to."""

    def __init__(self) -> None:
        # By the identity of the image as it came; an entry goes when that image does.
        self._shrunk: dict[int, tuple[weakref.ref[np.ndarray], int, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._shrunk)

    def plane(self, plane: Plane, factor: int) -> Plane:
        """Return a plane with its image and its intrinsics shrunk; itself for a factor of 1.

        :param factor: pixels that become one, across and down; rows and columns that are left
            over at the right and below are spread over the others.
        """
        if factor == 1:
            return plane
        height, width = plane.image.shape[:2]
        size = max(width // factor, 1), max(height // factor, 1)
        calibration = plane.calibration
        if calibration is not None:
            calibration = replace(
                calibration, camera=calibration.camera.resized(*size),
                rectified=_resized(calibration.rectified, size),
            )  # fmt: skip
        return replace(
            plane, image=self._image(plane.image, factor, size),
            camera=_resized(plane.camera, size), calibration=calibration,
        )  # fmt: skip

    def stack(self, stack: FocalStack, factor: int) -> FocalStack:
        """Return a stack of shrunk planes; itself for a factor of 1."""
        if factor == 1:
            return stack
        planes = tuple(self.plane(plane, factor) for plane in stack.planes)
        return replace(stack, planes=planes)

    def clear(self) -> None:
        """Forget everything."""
        self._shrunk.clear()

    def _image(self, image: np.ndarray, factor: int, size: tuple[int, int]) -> np.ndarray:
        key = id(image)
        source, made_for, small = self._shrunk.get(key, (None, 0, image))
        if source is None or source() is not image or made_for != factor:
            small = shrunk(image, size)
            forget = weakref.ref(image, lambda _: self._shrunk.pop(key, None))
            self._shrunk[key] = forget, factor, small
        return small


def shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a uint8 sRGB image, (H, W, 3) or (H, W), shrunk to a width and a height.

    Each pixel is the mean light of what it covers.
    """
    light = cv2.LUT(np.ascontiguousarray(image), _LIGHT)
    return encode_srgb8(np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA)))


def _resized(camera: PinholeCamera | None, size: tuple[int, int]) -> PinholeCamera | None:
    return None if camera is None else camera.resized(*size)
