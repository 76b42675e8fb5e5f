# SPDX-License-Identifier: Apache-2.0
"""What was made of single planes, kept until the stacks that they belong to are done.

A plane is looked at and encoded when it arrives, before its sweep is complete, and in sliding mode
it belongs to many stacks: only what needs all planes is left to do for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor

from dualfocus_ros.camera.rectification import NEGLIGIBLE_SHIFT, ViewMapping
from dualfocus_ros.models.encoders import PlaneFeatures

# Of the host's or the device's memory. Eight planes of 1280x960 fit.
DEFAULT_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False)
class EncodedPlane:
    """A plane as the decoder takes it.

    :param image: (3, H, W) float in [0, 1], in the geometry of the reference plane.
    :param gain: what its light was multiplied by.
    :param features: of this one plane.
    """

    image: Tensor
    gain: float
    features: PlaneFeatures

    @property
    def memory(self) -> int:
        """Bytes."""
        return self.features.nbytes + self.image.nbytes


class HasMemory(Protocol):
    """Something that takes memory."""

    @property
    def memory(self) -> int:
        """Bytes."""


Kept = TypeVar('Kept', bound=HasMemory)


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Kept]):
    source: np.ndarray
    mapping: ViewMapping
    plane: Kept


class PlaneCache(Generic[Kept]):
    """Finds what was made of planes by the very array that their image came in.

    :param limit: bytes; what does not fit is not kept.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        # An entry holds its array, so that no other can have its identity.
        self._entries: dict[int, _Entry[Kept]] = {}
        self._last: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def memory(self) -> int:
        """Bytes that the planes take."""
        return sum(entry.plane.memory for entry in self._entries.values())

    def planes(self) -> list[Kept]:
        """Return all that is kept, in the order in which it came."""
        return [entry.plane for entry in self._entries.values()]

    def find(self, image: np.ndarray, mapping: ViewMapping) -> Kept | None:
        """Return what was made by a mapping that is the same to a part of a pixel."""
        entry = self._entries.get(id(image))
        if entry is None or not entry.mapping.close_to(mapping, NEGLIGIBLE_SHIFT):
            return None
        return entry.plane

    def add(self, image: np.ndarray, mapping: ViewMapping, plane: Kept) -> bool:
        """Keep a plane; return whether there was room."""
        self._entries.pop(id(image), None)
        if self.memory + plane.memory > self._limit:
            return False
        self._entries[id(image)] = _Entry(image, mapping, plane)
        return True

    def finish(self, images: Sequence[np.ndarray]) -> None:
        """Forget what is not needed after a stack of these images.

        What came before its newest plane is over, and so are its own planes unless they also
        were in the stack before: then the next one will have them too.
        """
        sliding = any(image is old for image in images for old in self._last)
        self._last = list(images)
        mine = {id(image) for image in images}
        order = list(self._entries)
        used = [index for index, key in enumerate(order) if key in mine]
        newest = max(used, default=-1)
        self._entries = {
            key: self._entries[key]
            for index, key in enumerate(order)
            if (key in mine and sliding) or (key not in mine and index > newest)
        }

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._last.clear()
