# SPDX-License-Identifier: Apache-2.0
"""Registration of two contrast-normalised images by shift and scale.

Gauss-Newton steps with Cauchy weights (Lucas and Kanade 1981; Baker and Matthews 2004), coarse to
fine. Transforms are as in :mod:`dualfocus_ros.alignment.registration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from dualfocus_ros.alignment import registration

SIDE = 320  # px; longer side of the images that motion is estimated on
MAX_SHIFT = 0.12  # of the image width; beyond it the views differ too much
MIN_CORRELATION = 0.35  # of normalised images; unrelated or flat and noisy ones stay below 0.2
MIN_TEXTURE = 0.02  # share of pixels with visible detail that an estimate needs
HALVE = registration.pixel_scaling(0.5)
DOUBLE = np.linalg.inv(HALVE)
_VISIBLE = 0.5  # of a normalised image, whose noise is less and whose edges are about 1
_MAX_STEPS = 12
_CONVERGED = 2e-3  # px
_REUSE_GRADIENTS = 0.2  # px; after a smaller step the gradients are kept
_CAUCHY = 1.5
_BORDER = 4  # px, where blur mixes in replicated pixels


@dataclass(frozen=True, eq=False)
class NormalisedImage:
    """Image of normalised local contrast.

    :param pixels: (H, W) float32.
    """

    pixels: np.ndarray

    @cached_property
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradients along x and y, shared by the registrations with each neighbour."""
        kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
        return cv2.filter2D(self.pixels, -1, kernel), cv2.filter2D(self.pixels, -1, kernel.T)


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """Plane prepared for registration.

    :param fine: at ``scale`` times the size of the plane.
    :param coarse: at half that size.
    """

    fine: NormalisedImage
    coarse: NormalisedImage
    scale: float

    @staticmethod
    def from_grey(image: np.ndarray, scale: float = 1.0) -> RegistrationImage:
        """Prepare a grey image, (H, W) float32 of 0 to 255.

        :param scale: size of the image over that of the plane.
        """
        half = registration.downscale(image, 0.5)
        fine, coarse = (NormalisedImage(registration.normalise_contrast(x)) for x in (image, half))
        return RegistrationImage(fine, coarse, scale)

    @staticmethod
    def from_plane(image: np.ndarray) -> RegistrationImage:
        """Prepare a plane, (H, W) or (H, W, 3) uint8."""
        scale = registration_scale(image.shape)
        return RegistrationImage.from_grey(
            registration.downscale(registration.to_grey(image), scale), scale
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of ``fine``."""
        return self.fine.pixels.shape

    @property
    def nbytes(self) -> int:
        """Memory, gradients included."""
        return 3 * (self.fine.pixels.nbytes + self.coarse.pixels.nbytes)


def registration_scale(shape: tuple[int, ...]) -> float:
    """Return the scale at which planes of this shape are registered."""
    return min(1.0, SIDE / max(shape[:2]))


_Pair = tuple[NormalisedImage, NormalisedImage]


def register_shift_scale(images: _Pair, guess: np.ndarray) -> np.ndarray | None:
    """Refine a transform between two images; None if they do not correlate after it."""
    return _accepted(images, minimise_difference(*images, guess, with_scale=True))


def register_shift(first: RegistrationImage, second: RegistrationImage) -> np.ndarray | None:
    """Return the shift from the first image to the second, None where there is none."""
    fine, coarse = (first.fine, second.fine), (first.coarse, second.coarse)
    if min(_texture(image.pixels) for image in fine) < MIN_TEXTURE:
        return None

    # Small steps reach as far as the blur; phase correlation finds larger shifts.
    def large_shift() -> np.ndarray:
        return registration.phase_correlate(*(image.pixels for image in coarse))

    for start in (lambda: np.eye(3), large_shift):
        rough = DOUBLE @ minimise_difference(*coarse, start(), with_scale=False) @ HALVE
        transform = _accepted(fine, minimise_difference(*fine, rough, with_scale=False))
        if transform is not None:
            return transform
    return None


def _texture(image: np.ndarray) -> float:
    return float(np.mean(np.abs(image) > _VISIBLE))


def _accepted(images: _Pair, transform: np.ndarray) -> np.ndarray | None:
    """Return the transform if both images correlate after it."""
    first, second = (image.pixels for image in images)
    if not rms_displacement(transform, first.shape) < MAX_SHIFT * first.shape[1]:
        return None
    inner = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    one, two = first[inner], _warp(second, transform)[inner]
    product = float(np.vdot(one, two))
    power = float(np.vdot(one, one)) * float(np.vdot(two, two))
    return transform if product > MIN_CORRELATION * power**0.5 else None


def minimise_difference(
    one: NormalisedImage, two: NormalisedImage, transform: np.ndarray, *, with_scale: bool
) -> np.ndarray:
    """Minimise the robust difference of two images over shift, and scale if wanted."""
    first, second = one.pixels, two.pixels
    height, width = first.shape
    inner = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    x = np.arange(width, dtype=np.float32) - 0.5 * (width - 1)
    y = np.arange(height, dtype=np.float32) - 0.5 * (height - 1)
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    reference = first[inner]
    moved_by = np.inf
    for _ in range(_MAX_STEPS):
        difference = reference - _warp(second, transform)[inner]
        if moved_by > _REUSE_GRADIENTS:
            # The mean of both gradients converges faster than either (Malis 2004).
            gx, gy = (
                0.5 * (here + _warp(there, transform))[inner]
                for here, there in zip(one.gradients, two.gradients, strict=True)
            )
            columns = [gx, gy]
            if with_scale:
                columns.append(gx * x[inner[1]] + gy * y[inner[0], None])
            jacobian = np.stack([column.ravel() for column in columns])
        deviation = 1.4826 * float(np.median(np.abs(difference[::3, ::3]))) + 1e-6
        weights = 1.0 / (1.0 + (difference / (_CAUCHY * deviation)) ** 2)
        weighted = jacobian * weights.ravel()
        normal = weighted @ jacobian.T
        # Without texture along a direction there is no step along it.
        step = np.linalg.lstsq(normal.astype(np.float64), weighted @ difference.ravel(), 1e-4)[0]
        zoom = 1.0 + (step[2] if with_scale else 0.0)
        move = np.array(
            [
                [zoom, 0.0, centre[0] * (1.0 - zoom) + step[0]],
                [0.0, zoom, centre[1] * (1.0 - zoom) + step[1]],
                [0.0, 0.0, 1.0],
            ]
        )
        transform = transform @ move
        if not np.isfinite(transform).all():
            return np.full((3, 3), np.nan)
        moved_by = rms_displacement(move, first.shape)
        if moved_by < _CONVERGED:
            break
    return transform


def _warp(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(
        image,
        transform[:2],
        image.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def rms_displacement(transform: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the root mean square displacement by shift and scale over an image, in pixels."""
    height, width = shape
    zoom = transform[0, 0] - 1.0
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    shift = zoom * centre + transform[:2, 2]
    spread = (width * width + height * height) / 12.0
    return float(np.sqrt(shift @ shift + zoom * zoom * spread))
