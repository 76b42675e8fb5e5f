# SPDX-License-Identifier: Apache-2.0
"""Cache of the estimator: results shared by overlapping stacks or computed ahead of a stack.

Every result is a function of an image and exact parameters, and is stored under both: the depth of
a stack depends neither on earlier stacks nor on prefetched planes. The cache changes speed only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar
import zlib

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.shift_scale import PairCache, RegistrationImage
from dualfocus_ros.camera.field_curvature import field_curvature_map
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import ViewMapping
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, FocalStack, Plane
from dualfocus_ros.inference.decimation import decimated_size, downsample, replace_image
from dualfocus_ros.inference.network_runner import EncodedPlane
from dualfocus_ros.inference.plane_analysis import PlaneAnalysis, analyze_plane
from dualfocus_ros.inference.reference_view import ReferenceView
from dualfocus_ros.inference.settings import EstimatorSettings

# Bytes of host or device memory. Eight encoded planes of 1280 x 960 fit.
ENCODED_LIMIT = 1 << 30
# Bytes: more than a stack of the largest planes needs.
ANALYSIS_LIMIT = DECIMATED_LIMIT = 1 << 28
# A checksum of every 16th row takes 0.05 ms for 640 x 480 RGB; new content of a camera changes it.
_CHECKSUM_ROWS = 16
Value = TypeVar('Value', np.ndarray, PlaneAnalysis, EncodedPlane)


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Value]):
    image: np.ndarray  # no other object can take over its identity
    checksum: int
    key: Hashable
    value: Value


class PlaneCache(Generic[Value]):
    """Results by image, and by a key of all other parameters of the result.

    Images are compared by identity and a checksum, which detects a reused buffer. An image has one
    entry: a result for another key replaces it.

    :param limit: bytes; results beyond it are not stored.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[int, _Entry[Value]] = {}
        self._last_images: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, images included."""
        return sum(entry.image.nbytes + entry.value.nbytes for entry in self._entries.values())

    def values(self) -> list[Value]:
        """Return all results, oldest first."""
        return [entry.value for entry in self._entries.values()]

    def get(self, image: np.ndarray, key: Hashable) -> Value | None:
        """Return the result for exactly this key."""
        entry = self._entries.get(id(image))
        if entry is None or entry.key != key or entry.checksum != _checksum(image):
            return None
        return entry.value

    def add(self, image: np.ndarray, key: Hashable, value: Value) -> bool:
        """Store a result; return whether it fitted."""
        self._entries.pop(id(image), None)
        if self.nbytes + image.nbytes + value.nbytes > self._limit:
            return False
        self._entries[id(image)] = _Entry(image, _checksum(image), key, value)
        return True

    def get_or_compute(
        self, image: np.ndarray, key: Hashable, compute: Callable[[], Value]
    ) -> Value:
        value = self.get(image, key)
        if value is None:
            value = compute()
            self.add(image, key, value)
        return value

    def retire(self, images: Sequence[np.ndarray]) -> None:
        """Drop entries that stacks after this one will not need.

        Entries older than the newest one of these images go. The images' entries go too, unless
        stacks overlap: then one of the images was also in the stack before.

        :param images: of the stack that was estimated last.
        """
        overlapping = any(image is last for image in images for last in self._last_images)
        self._last_images = list(images)
        ours = {id(image) for image in images}
        order = list(self._entries)
        newest = max((rank for rank, key in enumerate(order) if key in ours), default=-1)
        self._entries = {
            key: self._entries[key]
            for rank, key in enumerate(order)
            if (key in ours and overlapping) or (key not in ours and rank > newest)
        }

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self._last_images.clear()


def _checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image[::_CHECKSUM_ROWS]).data)


class EstimatorCache:
    """All cached results of a :class:`DepthEstimator`."""

    def __init__(self) -> None:
        self.pairs = PairCache()
        self._decimated: PlaneCache[np.ndarray] = PlaneCache(DECIMATED_LIMIT)
        self._analyses: PlaneCache[PlaneAnalysis] = PlaneCache(ANALYSIS_LIMIT)
        # Planes without motion, by mapping and gain.
        self.encoded: PlaneCache[EncodedPlane] = PlaneCache(ENCODED_LIMIT)
        self._curvature: tuple[tuple[object, ...], Tensor] | None = None
        # Geometry, focus and gains of the last stack, to predict the next one.
        self._last: tuple[ReferenceView, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._decimated) + len(self._analyses) + len(self.encoded) + len(self.pairs)

    def decimate(self, plane: Plane, factor: int) -> Plane:
        """Return the plane downsampled by a factor."""
        if factor == 1:
            return plane
        size = decimated_size(plane.image.shape, factor)
        compute = partial(downsample, plane.image, size)
        return replace_image(plane, self._decimated.get_or_compute(plane.image, size, compute))

    def decimate_stack(self, stack: FocalStack, factor: int) -> FocalStack:
        """Return a stack of downsampled planes."""
        if factor == 1:
            return stack
        return replace(stack, planes=tuple(self.decimate(plane, factor) for plane in stack.planes))

    def analyze(
        self, plane: Plane, mapping: ViewMapping, settings: EstimatorSettings
    ) -> PlaneAnalysis:
        """Return :func:`analyze_plane`."""
        key = mapping, settings.alignment != 'off', settings.normalise_exposure
        compute = partial(analyze_plane, plane, mapping, settings)
        return self._analyses.get_or_compute(plane.image, key, compute)

    def register_ahead(self) -> None:
        """Register the newest analyzed plane at each focus to its neighbours.

        The planes of the next stack will ask for the same pairs.
        """
        newest: list[tuple[float, RegistrationImage]] = []
        for plane in self._analyses.values():
            focus, image = plane.focus_dioptres, plane.registration
            if image is None:
                continue
            newest = [
                (other_focus, other)
                for other_focus, other in newest
                if abs(other_focus - focus) > FOCUS_TOLERANCE and other.shape == image.shape
            ]
            newest.append((focus, image))
        if len(newest) > 1:
            distances, images = zip(*newest, strict=True)
            align(images, distances, model='shift_scale', pairs=self.pairs)

    def field_curvature_map(
        self,
        size: tuple[int, int],
        camera: PinholeCamera | None,
        settings: EstimatorSettings,
        device: torch.device,
    ) -> Tensor | None:
        """Return the field curvature of the lens in dioptres, (H, W); None for none.

        :param camera: gives the principal point; None for the middle of the image.
        """
        coefficients = settings.field_curvature
        if not any(coefficients):
            return None
        centre = None if camera is None else (camera.cx, camera.cy)
        key = size, coefficients, centre, device
        if self._curvature is None or self._curvature[0] != key:
            values = torch.from_numpy(field_curvature_map(*size, coefficients, centre))
            self._curvature = key, values.to(device)
        return self._curvature[1]

    def predict(
        self, plane: Plane, settings: EstimatorSettings
    ) -> tuple[ViewMapping, float] | None:
        """Predict mapping and gain of a plane whose stack is not complete, from the last stack.

        :returns: None before the first stack, and for planes of another size.
        """
        if self._last is None:
            return None
        reference, focus_dioptres, gains = self._last
        if plane.image.shape[:2] != (reference.output.height, reference.output.width):
            return None
        gain = 1.0
        if settings.normalise_exposure:
            gain = float(gains[np.abs(focus_dioptres - plane.focus_dioptres).argmin()])
        return reference.mapping(plane, settings), gain

    def finish(
        self, stack: FocalStack, full_size: FocalStack, reference: ReferenceView, gains: np.ndarray
    ) -> None:
        """Drop results that no stack after this one needs, and predict the next stack.

        :param full_size: the stack before decimation.
        """
        self._last = reference, stack.focus_dioptres, gains
        self._decimated.retire([plane.image for plane in full_size.planes])
        images = [plane.image for plane in stack.planes]
        self._analyses.retire(images)
        self.encoded.retire(images)
        self.pairs.retain(
            plane.registration
            for plane in self._analyses.values()
            if plane.registration is not None
        )

    def clear(self) -> None:
        """Drop all results and the prediction."""
        self._last = self._curvature = None
        for results in (self._decimated, self._analyses, self.encoded):
            results.clear()
        self.pairs.retain(())
