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

from dualfocus_ros.camera.srgb import decode_srgb8, encode_srgb8
from dualfocus_ros.focal_stack import FocalStack, Plane


class PlaneDecimator:
    """Shrinks planes, each once however many stacks it belongs to."""

    def __init__(self) -> None:
        # By the identity of the image as it came; an entry goes when that image does.
        self._shrunk: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}

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
        return replace_image(plane, self._image(plane.image, size))

    def stack(self, stack: FocalStack, factor: int) -> FocalStack:
        """Return a stack of shrunk planes."""
        planes = tuple(self.plane(plane, factor) for plane in stack.planes)
        return replace(stack, planes=planes)

    def clear(self) -> None:
        """Forget everything."""
        self._shrunk.clear()

    def _image(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        key = id(image)
        _, small = self._shrunk.get(key, (None, image))
        if small.shape[1::-1] != size:
            small = downsample(image, size)
            forget = weakref.ref(image, lambda _: self._shrunk.pop(key, None))
            self._shrunk[key] = forget, small
        return small


def downsample(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a uint8 sRGB image, (H, W, 3) or (H, W), shrunk to a width and a height.

    Each pixel is the mean light of what it covers.
    """
    light = cv2.resize(decode_srgb8(image), size, interpolation=cv2.INTER_AREA)
    return encode_srgb8(np.asarray(light))


def replace_image(plane: Plane, image: np.ndarray) -> Plane:
    """Return a plane with the same view in another number of pixels, and intrinsics to fit."""
    height, width = image.shape[:2]
    camera, calibration = plane.camera, plane.calibration
    return replace(
        plane,
        image=image,
        camera=camera and camera.resized(width, height),
        calibration=calibration and calibration.resized(width, height),
    )
