# SPDX-License-Identifier: Apache-2.0
"""Alignment by shift and scale, for planes whose breathing and distortion are already corrected.

A hand, a robot or a lens without position feedback shifts each plane by some pixels and may scale
it slightly: three parameters, estimated between neighbours in focus on small contrast-normalised
images. Pairs are registered by Gauss-Newton steps with Cauchy weights (Lucas and Kanade 1981;
Baker and Matthews 2004), coarse to fine. Transforms are as in
:mod:`dualfocus_ros.alignment.registration`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.alignment.alignment_result import Alignment, identity_alignment

SIDE = 320  # px; longer side of the images that motion is estimated on
MAX_SHIFT = 0.12  # of the image width; beyond it the views differ too much
MIN_CORRELATION = 0.35  # of normalised images; unrelated or flat and noisy ones stay below 0.2
MIN_TEXTURE = 0.02  # share of pixels with visible detail that an estimate needs
_HALVE = registration.pixel_scaling(0.5)
_DOUBLE = np.linalg.inv(_HALVE)
_VISIBLE = 0.5  # of a normalised image, whose noise is less and whose edges are about 1
_MAX_STEPS = 12
_CONVERGED = 2e-3  # px
_REUSE_GRADIENTS = 0.2  # px; after a smaller step the gradients are kept
_CAUCHY = 1.5
_BORDER = 4  # px, where blur mixes in replicated pixels
# Less motion than this share of the width is ignored: defocused edges look displaced by as much.
MIN_MOTION = 0.0004
# A scale closer to 1 is attributed to defocus: where a near edge is blurred over its background,
# surroundings seem to grow by up to 0.3 %.
SCALE_NOISE = 0.004


@dataclass(frozen=True, eq=False)
class NormalisedImage:
    """Image of normalised local contrast, (H, W) float32."""

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
        return RegistrationImage.from_grey(registration.small_grey(image, scale), scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of ``fine``."""
        return self.fine.pixels.shape

    @property
    def nbytes(self) -> int:
        """Bytes, gradients included."""
        return 3 * (self.fine.pixels.nbytes + self.coarse.pixels.nbytes)


def registration_scale(shape: tuple[int, ...]) -> float:
    """Return the scale at which planes of this shape are registered."""
    return min(1.0, SIDE / max(shape[:2]))


class PairCache:
    """Cache of pair registrations for stacks that share planes.

    A registration is a function of both images and the initial guess, which are its key: the
    cache changes speed only.
    """

    def __init__(self) -> None:
        # Entries hold their images: no other object can take over an identity.
        self._entries: dict[
            tuple[int, int, str, bytes],
            tuple[RegistrationImage, RegistrationImage, np.ndarray | None],
        ] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get_or_compute(
        self,
        first: RegistrationImage,
        second: RegistrationImage,
        stage: str,
        guess: np.ndarray | None,
        compute: Callable[[], np.ndarray | None],
    ) -> np.ndarray | None:
        """Return the transform from the first image to the second; None where there is none."""
        key = id(first), id(second), stage, b'' if guess is None else guess.tobytes()
        if key not in self._entries:
            self._entries[key] = first, second, compute()
        return self._entries[key][2]

    def retain(self, images: Iterable[RegistrationImage]) -> None:
        """Drop all pairs but those of these images."""
        kept = {id(image) for image in images}
        self._entries = {k: v for k, v in self._entries.items() if k[0] in kept and k[1] in kept}


# By plane, in order of registration: its anchor, a plane nearer to the reference, and the
# transform from the anchor. An anchor comes before the planes that are linked to it.
_Links = dict[int, tuple[int, np.ndarray]]
_Pair = tuple[NormalisedImage, NormalisedImage]


def align_shift_scale(
    images: Sequence[RegistrationImage],
    focus: np.ndarray,
    reference: int,
    pairs: PairCache,
) -> Alignment:
    """Estimate shift and scale of each plane against the reference plane.

    Transforms are the identity where registration failed, and for all planes if the largest
    displacement is negligible.
    """
    shape, scale = images[0].shape, images[0].scale
    order = registration.registration_order(focus, reference)
    register = partial(_register_pairs, images, order, reference, pairs)
    links = register('shift')
    # The coarse images are sufficient to decide whether the planes differ in scale.
    zoomed = register('coarse', _rescaled(links, _HALVE, _DOUBLE))
    if any(abs(t[0, 0] - 1.0) > SCALE_NOISE for t in _chained(zoomed, reference).values()):
        links = register('fine', _rescaled(zoomed, _DOUBLE, _HALVE))
    found = identity_alignment(len(images), reference)
    found.displacement_px[:] = np.nan
    for index, transform in _chained(links, reference).items():
        found.transforms[index] = transform
        found.displacement_px[index] = rms_displacement(transform, shape)
    found = found.at_full_size(scale)
    if not found.max_displacement_px > MIN_MOTION * shape[1] / scale:
        found.transforms[:] = np.eye(3)
    return found


def _register_pairs(
    images: Sequence[RegistrationImage],
    order: list[tuple[int, list[int]]],
    reference: int,
    pairs: PairCache,
    stage: str,
    start: _Links | None = None,
) -> _Links:
    """Register each plane to its nearest registered neighbour; omit planes that fail.

    :param stage: ``shift``, or the images on which ``start`` is refined: ``coarse`` or ``fine``.
    """
    absolute = {} if start is None else _chained(start, reference)
    links: _Links = {}
    for index, neighbours in order:
        if start is not None and index not in start:
            continue
        anchor = next(n for n in neighbours if n in links or n == reference)
        one, two = images[anchor], images[index]
        guess, register = None, partial(register_shift, one, two)
        if start is not None:
            first_anchor, guess = start[index]
            if first_anchor != anchor:
                guess = absolute[index] @ np.linalg.inv(absolute[anchor])
            both = getattr(one, stage), getattr(two, stage)
            register = partial(_minimise, both, guess, with_scale=True)
        transform = pairs.get_or_compute(one, two, stage, guess, register)
        if transform is not None:
            links[index] = anchor, transform
    return links


def _chained(links: _Links, reference: int) -> dict[int, np.ndarray]:
    """Return the transform from the reference plane to each linked plane."""
    transforms = {reference: np.eye(3)}
    for index, (anchor, transform) in links.items():
        transforms[index] = transform @ transforms[anchor]
    return transforms


def _rescaled(links: _Links, scaling: np.ndarray, inverse: np.ndarray) -> _Links:
    """Return the links for images of another size."""
    return {n: (anchor, scaling @ found @ inverse) for n, (anchor, found) in links.items()}


def register_shift(first: RegistrationImage, second: RegistrationImage) -> np.ndarray | None:
    """Return the shift from the first image to the second; None where there is none."""
    fine, coarse = (first.fine, second.fine), (first.coarse, second.coarse)
    if min(np.mean(np.abs(image.pixels) > _VISIBLE) for image in fine) < MIN_TEXTURE:
        return None
    for correlate in (False, True):
        # Small steps reach as far as the blur; phase correlation finds larger shifts.
        start = np.eye(3)
        if correlate:
            start = registration.phase_correlate(*(image.pixels for image in coarse))
        rough = _DOUBLE @ minimise_difference(*coarse, start, with_scale=False) @ _HALVE
        transform = _minimise(fine, rough, with_scale=False)
        if transform is not None:
            return transform
    return None


def _minimise(images: _Pair, guess: np.ndarray, *, with_scale: bool) -> np.ndarray | None:
    """Refine a transform between two images; None if they do not correlate after it."""
    transform = minimise_difference(*images, guess, with_scale=with_scale)
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
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    x = np.arange(width, dtype=np.float32) - 0.5 * (width - 1)
    y = np.arange(height, dtype=np.float32) - 0.5 * (height - 1)
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
        dx, dy = centre * (1.0 - zoom) + step[:2]
        move = registration.similarity(dx, dy, zoom)
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
