# SPDX-License-Identifier: Apache-2.0
"""Alignment by shift and scale, for planes whose breathing and distortion are already corrected.

A hand, a robot or a lens without position feedback shifts each plane by some pixels and may scale
it slightly: three parameters, estimated between neighbours in focus on small images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.alignment.alignment_result import Alignment, identity_alignment
from dualfocus_ros.alignment.gauss_newton import (
    DOUBLE,
    HALVE,
    RegistrationImage,
    register_shift,
    register_shift_scale,
    rms_displacement,
)

# Less motion than this share of the width is ignored: defocused edges look displaced by as much.
MIN_MOTION = 0.0004
# A scale closer to 1 is attributed to defocus: where a near edge is blurred over its background,
# surroundings seem to grow by up to 0.3 %.
SCALE_NOISE = 0.004

_PairKey = tuple[int, int, str, bytes]


class PairCache:
    """Cache of pair registrations for stacks that share planes.

    A registration is a function of both images and the initial guess, which are its key: the
    cache changes speed only.
    """

    def __init__(self) -> None:
        # Entries hold their images: no other object can take over an identity.
        self._entries: dict[
            _PairKey, tuple[RegistrationImage, RegistrationImage, np.ndarray | None]
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


def align_shift_scale(
    images: Sequence[RegistrationImage],
    focus: np.ndarray,
    reference: int,
    pairs: PairCache | None = None,
) -> Alignment:
    """Estimate shift and scale of each plane against the reference plane.

    Transforms are the identity where registration failed, and for all planes if the largest
    displacement is negligible.
    """
    pairs = PairCache() if pairs is None else pairs
    shape, scale = images[0].shape, images[0].scale
    order = registration.registration_order(focus, reference)
    links = _register_shifts(images, order, reference, pairs)
    # The coarse images are sufficient to decide whether the planes differ in scale.
    zoomed = _refine_scales(
        images, 'coarse', order, reference, _rescaled(links, HALVE, DOUBLE), pairs
    )
    if any(abs(t[0, 0] - 1.0) > SCALE_NOISE for t in _chained(zoomed, reference).values()):
        links = _refine_scales(
            images, 'fine', order, reference, _rescaled(zoomed, DOUBLE, HALVE), pairs
        )
    found = identity_alignment(len(images), reference)
    found.displacement_px[:] = np.nan
    for index, transform in _chained(links, reference).items():
        found.transforms[index] = transform
        found.displacement_px[index] = rms_displacement(transform, shape)
    found = found.at_full_size(scale)
    if not found.max_displacement_px > MIN_MOTION * shape[1] / scale:
        found.transforms[:] = np.eye(3)
    return found


@dataclass(frozen=True, eq=False)
class _Link:
    """Transform from plane ``anchor`` to a plane; the anchor is nearer to the reference."""

    anchor: int
    transform: np.ndarray


# By plane, in order of registration: an anchor comes before the planes that are linked to it.
_Links = dict[int, _Link]
_Order = list[tuple[int, list[int]]]


def _chained(links: _Links, reference: int) -> dict[int, np.ndarray]:
    """Return the transform from the reference plane to each linked plane."""
    transforms = {reference: np.eye(3)}
    for index, link in links.items():
        transforms[index] = link.transform @ transforms[link.anchor]
    return transforms


def _rescaled(links: _Links, scaling: np.ndarray, inverse: np.ndarray) -> _Links:
    """Return the links for images of another size."""
    return {n: _Link(link.anchor, scaling @ link.transform @ inverse) for n, link in links.items()}


def _register_shifts(
    images: Sequence[RegistrationImage], order: _Order, reference: int, pairs: PairCache
) -> _Links:
    """Register each plane to its nearest registered neighbour; omit planes that fail."""
    links: _Links = {}
    for index, neighbours in order:
        anchor = next(n for n in neighbours if n in links or n == reference)
        one, two = images[anchor], images[index]
        shift = pairs.get_or_compute(one, two, 'shift', None, partial(register_shift, one, two))
        if shift is not None:
            links[index] = _Link(anchor, shift)
    return links


def _refine_scales(
    images: Sequence[RegistrationImage],
    size: str,
    order: _Order,
    reference: int,
    start: _Links,
    pairs: PairCache,
) -> _Links:
    """Refine to shift and scale; omit planes that no longer match.

    :param size: of the images that are compared, ``fine`` or ``coarse``.
    """
    absolute = _chained(start, reference)
    links: _Links = {}
    for index, neighbours in order:
        if index not in start:
            continue
        anchor = next(n for n in neighbours if n in links or n == reference)
        guess = start[index].transform
        if start[index].anchor != anchor:
            guess = absolute[index] @ np.linalg.inv(absolute[anchor])
        one, two = images[anchor], images[index]
        both = (one.fine, two.fine) if size == 'fine' else (one.coarse, two.coarse)
        transform = pairs.get_or_compute(
            one, two, size, guess, partial(register_shift_scale, both, guess)
        )
        if transform is not None:
            links[index] = _Link(anchor, transform)
    return links
