# SPDX-License-Identifier: Apache-2.0
"""How far the camera moved between the planes of a stack, beyond what lens and calibration tell.

A hand, a robot or a lens driven without feedback shifts each plane by some pixels and may scale
it a little: three parameters. They are estimated on small images in which blur and local contrast
are equalised, by Gauss-Newton steps with Cauchy weights (Lucas and Kanade 1981; Baker and
Matthews 2004), coarse to fine, from neighbour to neighbour in focus: these look most alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np

from dualfocus_ros.alignment import registration

SIDE = 320  # px; longer side of the images that motion is estimated on
# Less motion than this share of the width is left alone: defocused edges look displaced by it.
MIN_MOTION = 0.0004
# A scale that differs from 1 by less is put down to defocus: where a near edge is blurred over
# what lies behind it, surroundings seem to grow by up to 0.3 %.
SCALE_NOISE = 0.004
MAX_SHIFT = 0.12  # of the image width; more is not the same view any more
MIN_CORRELATION = 0.35  # of equalised images; unrelated or flat and noisy ones stay below 0.2
MIN_TEXTURE = 0.02  # share of pixels with visible detail that an estimate needs
_VISIBLE = 0.5  # of an equalised image, whose noise has less and whose edges are about 1
_STEPS = 12
_CONVERGED = 2e-3  # px
_SAME_SLOPES = 0.2  # px; after a smaller step the gradients are those of before
_CAUCHY = 1.5
_BORDER = 4  # px, blurred together with what is not there


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the content of each plane lies.

    :param transforms: (N, 3, 3) float64; a point at x in the reference plane lies at
        ``transforms[n] x`` in plane n, in pixels, after everything that is known was taken out.
        The identity where a plane rests or nothing could be estimated.
    :param pixels: (N,) root mean square of that displacement over the image; NaN where nothing
        could be estimated.
    """

    transforms: np.ndarray
    pixels: np.ndarray

    @property
    def largest(self) -> float:
        """The largest displacement of a plane, in pixels; NaN where none is known."""
        known = self.pixels[np.isfinite(self.pixels)]
        return float(known.max()) if len(known) > 1 else float('nan')

    def enlarged(self, factor: float) -> Motion:
        """Return the same motion in the pixels of images that are larger by this factor."""
        shrinking = registration.pixel_scaling(1.0 / factor)
        transforms = np.linalg.inv(shrinking) @ self.transforms @ shrinking
        return Motion(transforms, self.pixels * factor)

    @property
    def failed(self) -> tuple[int, ...]:
        """The planes about which the images say nothing."""
        return tuple(int(n) for n in np.flatnonzero(np.isnan(self.pixels)))


@dataclass(frozen=True, eq=False)
class ContrastNormalised:
    """An image in which blur and local contrast are equalised.

    :param pixels: (H, W) float32.
    """

    pixels: np.ndarray

    @cached_property
    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradients along x and y; those of a plane serve with each of its neighbours."""
        kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
        return cv2.filter2D(self.pixels, -1, kernel), cv2.filter2D(self.pixels, -1, kernel.T)


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """A plane as its motion is estimated: ``coarse`` has half the size of ``fine``."""

    fine: ContrastNormalised
    coarse: ContrastNormalised

    @staticmethod
    def at(image: np.ndarray) -> RegistrationImage:
        """Return the look of a grey image (H, W) float32 of 0 to 255."""
        half = registration.downscale(image, 0.5)
        fine, coarse = (
            ContrastNormalised(registration.normalise_contrast(size)) for size in (image, half)
        )
        return RegistrationImage(fine, coarse)

    @property
    def nbytes(self) -> int:
        """Memory that it occupies at most, with the slopes."""
        return 3 * (self.fine.pixels.nbytes + self.coarse.pixels.nbytes)


_Key = tuple[int, int, str]


class PairCache:
    """What was found between two planes, for stacks that have both."""

    def __init__(self) -> None:
        # An entry holds its looks, so that no others can have their identity.
        self._found: dict[
            _Key, tuple[RegistrationImage, RegistrationImage, np.ndarray | None]
        ] = {}

    def __len__(self) -> int:
        return len(self._found)

    def recall(
        self,
        first: RegistrationImage,
        second: RegistrationImage,
        how: str,
        find: Callable[[], np.ndarray | None],
    ) -> np.ndarray | None:
        """Return what was found between these looks, or find it now."""
        key = id(first), id(second), how
        if key not in self._found:
            self._found[key] = first, second, find()
        return self._found[key][2]

    def retain(self, looks: Iterable[RegistrationImage]) -> None:
        """Forget all pairs but those of these looks."""
        kept = {id(look) for look in looks}
        self._found = {k: v for k, v in self._found.items() if k[0] in kept and k[1] in kept}


def estimate_motion(
    looks: Sequence[RegistrationImage],
    focus_dioptres: np.ndarray,
    reference: int,
    factor: float,
    known: PairCache | None = None,
) -> Motion:
    """Estimate scale and shift of each plane against the reference plane.

    :param looks: of N images, shrunk by ``factor``, in which known breathing and distortion are
        taken out.
    :param focus_dioptres: (N,); decides which planes are neighbours.
    :param factor: size of these images over that of the planes; the result is in pixels of the
        planes.
    :param known: of stacks before; learns from this one.
    """
    known = PairCache() if known is None else known
    count = len(looks)
    shape = looks[0].fine.pixels.shape
    order = registration.registration_order(focus_dioptres, reference)
    found = _shifts(looks, order, reference, known)
    # Whether there is a scale too is seen well enough on the coarse images.
    halves = {n: _HALVED @ t @ _DOUBLED for n, t in found.items()}
    zooms = _with_scale(looks, 'coarse', order, reference, halves, known)
    if any(abs(t[0, 0] - 1.0) > SCALE_NOISE for t in zooms.values()):
        start = {n: _DOUBLED @ t @ _HALVED for n, t in zooms.items()}
        found = _with_scale(looks, 'fine', order, reference, start, known)
    transforms = np.tile(np.eye(3), (count, 1, 1))
    pixels = np.full(count, np.nan)
    scaling = registration.pixel_scaling(factor)
    for index, transform in found.items():
        transforms[index] = np.linalg.inv(scaling) @ transform @ scaling
        pixels[index] = _rms_displacement(transform, shape) / factor
    motion = Motion(transforms, pixels)
    if not motion.largest > MIN_MOTION * shape[1] / factor:
        return Motion(np.tile(np.eye(3), (count, 1, 1)), pixels)
    return motion


_Order = list[tuple[int, list[int]]]
_HALVED = registration.pixel_scaling(0.5)
_DOUBLED = np.linalg.inv(_HALVED)


def _shifts(
    looks: Sequence[RegistrationImage], order: _Order, reference: int, known: PairCache
) -> dict[int, np.ndarray]:
    """Register each plane to its nearest neighbour that could be; return those that could."""
    found = {reference: np.eye(3)}
    for index, neighbours in order:
        anchor = next(n for n in neighbours if n in found)
        one, two = looks[anchor], looks[index]
        pair = known.recall(one, two, 'shift', partial(_register, one, two))
        if pair is not None:
            found[index] = pair @ found[anchor]
    return found


def _with_scale(
    looks: Sequence[RegistrationImage],
    size: str,
    order: _Order,
    reference: int,
    start: dict[int, np.ndarray],
    known: PairCache,
) -> dict[int, np.ndarray]:
    """Refine shifts to shifts and scales; what gets worse by it drops out.

    :param size: of the images that are compared: ``fine`` or ``coarse``.
    """
    found = {reference: np.eye(3)}
    for index, neighbours in order:
        anchor = next(n for n in neighbours if n in found)
        if index not in start:
            continue
        guess = start[index] @ np.linalg.inv(start[anchor])
        one, two = looks[anchor], looks[index]
        both = (one.fine, two.fine) if size == 'fine' else (one.coarse, two.coarse)
        pair = known.recall(one, two, size, partial(_zoomed, both, guess))
        if pair is not None:
            found[index] = pair @ found[anchor]
    return found


_Pair = tuple[ContrastNormalised, ContrastNormalised]


def _zoomed(images: _Pair, guess: np.ndarray) -> np.ndarray | None:
    return _checked(images, _gauss_newton(*images, guess, scaled=True))


def _register(first: RegistrationImage, second: RegistrationImage) -> np.ndarray | None:
    """Return the shift from the first image to the second, None where there is none."""
    fine, coarse = (first.fine, second.fine), (first.coarse, second.coarse)
    if min(_texture(image.pixels) for image in fine) < MIN_TEXTURE:
        return None

    # Small steps reach as far as the blur; phase correlation finds what lies farther.
    def jump() -> np.ndarray:
        return registration.phase_correlate(*(image.pixels for image in coarse))

    starts = (lambda: np.eye(3), jump)
    for start in starts:
        rough = _DOUBLED @ _gauss_newton(*coarse, start(), scaled=False) @ _HALVED
        transform = _checked(fine, _gauss_newton(*fine, rough, scaled=False))
        if transform is not None:
            return transform
    return None


def _texture(image: np.ndarray) -> float:
    return float(np.mean(np.abs(image) > _VISIBLE))


def _checked(images: _Pair, transform: np.ndarray) -> np.ndarray | None:
    """Return the transform if both images look alike after it."""
    first, second = (image.pixels for image in images)
    if not _rms_displacement(transform, first.shape) < MAX_SHIFT * first.shape[1]:
        return None
    inner = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    one, two = first[inner], _warp(second, transform)[inner]
    product = float(np.vdot(one, two))
    power = float(np.vdot(one, one)) * float(np.vdot(two, two))
    return transform if product > MIN_CORRELATION * power**0.5 else None


def _gauss_newton(
    one: ContrastNormalised, two: ContrastNormalised, transform: np.ndarray, *, scaled: bool
) -> np.ndarray:
    """Minimise the difference of the two images, weighted against outliers."""
    first, second = one.pixels, two.pixels
    height, width = first.shape
    inner = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    x = np.arange(width, dtype=np.float32) - 0.5 * (width - 1)
    y = np.arange(height, dtype=np.float32) - 0.5 * (height - 1)
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    reference = first[inner]
    moved_by = np.inf
    for _ in range(_STEPS):
        difference = reference - _warp(second, transform)[inner]
        if moved_by > _SAME_SLOPES:
            # The mean of both gradients converges faster than either (Malis 2004).
            gx, gy = (
                0.5 * (here + _warp(there, transform))[inner]
                for here, there in zip(one.slopes, two.slopes, strict=True)
            )
            columns = [gx, gy]
            if scaled:
                columns.append(gx * x[inner[1]] + gy * y[inner[0], None])
            jacobian = np.stack([column.ravel() for column in columns])
        scale = 1.4826 * float(np.median(np.abs(difference[::3, ::3]))) + 1e-6
        weights = 1.0 / (1.0 + (difference / (_CAUCHY * scale)) ** 2)
        weighted = jacobian * weights.ravel()
        normal = weighted @ jacobian.T
        # Without texture along some direction there is no step along it.
        step = np.linalg.lstsq(normal.astype(np.float64), weighted @ difference.ravel(), 1e-4)[0]
        zoom = 1.0 + (step[2] if scaled else 0.0)
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
        moved_by = _rms_displacement(move, first.shape)
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


def _rms_displacement(transform: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the root mean square displacement over an image of this shape, in pixels."""
    height, width = shape
    zoom = transform[0, 0] - 1.0
    centre = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    shift = zoom * centre + transform[:2, 2]
    spread = (width * width + height * height) / 12.0
    return float(np.sqrt(shift @ shift + zoom * zoom * spread))
