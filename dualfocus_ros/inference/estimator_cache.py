# SPDX-License-Identifier: Apache-2.0
"""Cache of the estimator: results shared by overlapping stacks or computed ahead of a stack.

Every result is a function of an image and exact parameters, and is stored under both: the depth of
a stack depends neither on earlier stacks nor on prefetched planes. The cache changes speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.registration_image import RegistrationImage
from dualfocus_ros.alignment.shift_scale import PairCache
from dualfocus_ros.camera.field_curvature import field_curvature_map
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import ViewMapping
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, FocalStack, Plane
from dualfocus_ros.inference.decimation import decimated_size, downsample, replace_image
from dualfocus_ros.inference.plane_analysis import PlaneAnalysis, analyze_plane
from dualfocus_ros.inference.plane_cache import PlaneCache
from dualfocus_ros.inference.plane_encoding import EncodedPlane
from dualfocus_ros.inference.reference_view import ReferenceView
from dualfocus_ros.inference.settings import EstimatorSettings

# Bytes of host or device memory. Eight encoded planes of 1280 x 960 fit.
ENCODED_LIMIT = 1 << 30
# Bytes: more than a stack of the largest planes needs.
ANALYSIS_LIMIT = DECIMATED_LIMIT = 1 << 28


@dataclass(frozen=True, eq=False)
class _Forecast:
    """Geometry and exposure gains of the last stack, as a guess for the next one."""

    reference: ReferenceView
    focus_dioptres: np.ndarray
    gains: np.ndarray


class EstimatorCache:
    """All cached results of a :class:`DepthEstimator`."""

    def __init__(self) -> None:
        self.pairs = PairCache()
        self._decimated: PlaneCache[np.ndarray] = PlaneCache(DECIMATED_LIMIT)
        self._analyses: PlaneCache[PlaneAnalysis] = PlaneCache(ANALYSIS_LIMIT)
        self._encoded: PlaneCache[EncodedPlane] = PlaneCache(ENCODED_LIMIT)
        self._curvature: tuple[tuple[object, ...], Tensor] | None = None
        self._forecast: _Forecast | None = None

    def __len__(self) -> int:
        return len(self._decimated) + len(self._analyses) + len(self._encoded) + len(self.pairs)

    @property
    def encoded_planes(self) -> int:
        """Number of encoded planes."""
        return len(self._encoded)

    def decimate(self, plane: Plane, factor: int) -> Plane:
        """Return the plane downsampled by a factor; itself for a factor of 1."""
        if factor == 1:
            return plane
        size = decimated_size(plane.image.shape, factor)
        image = self._decimated.get_or_compute(
            plane.image, size, partial(downsample, plane.image, size)
        )
        return replace_image(plane, image)

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
        return self._analyses.get_or_compute(
            plane.image, key, partial(analyze_plane, plane, mapping, settings)
        )

    def register_ahead(self) -> None:
        """Register the newest analyzed plane at each focus to its neighbours.

        The planes of the next stack will ask for the same pairs.
        """
        newest: list[tuple[float, RegistrationImage]] = []
        for plane in self._analyses.values():
            image = plane.registration
            if image is None:
                continue
            newest = [
                (focus, other)
                for focus, other in newest
                if abs(focus - plane.focus_dioptres) > FOCUS_TOLERANCE
                and other.shape == image.shape
            ]
            newest.append((plane.focus_dioptres, image))
        if len(newest) > 1:
            focus = [focus for focus, _ in newest]
            align([image for _, image in newest], focus, model='shift_scale', pairs=self.pairs)

    def encode(
        self,
        image: np.ndarray,
        mapping: ViewMapping,
        gain: float,
        compute: Callable[[], EncodedPlane],
    ) -> EncodedPlane:
        """Return the encoding of an image without motion, computed if necessary."""
        return self._encoded.get_or_compute(image, (mapping, gain), compute)

    def holds_encoded(self, image: np.ndarray, mapping: ViewMapping, gain: float) -> bool:
        """Return whether the encoding of an image is stored."""
        return self._encoded.get(image, (mapping, gain)) is not None

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
        forecast = self._forecast
        if forecast is None:
            return None
        output = forecast.reference.output
        if plane.image.shape[:2] != (output.height, output.width):
            return None
        gain = 1.0
        if settings.normalise_exposure:
            nearest = np.abs(forecast.focus_dioptres - plane.focus_dioptres).argmin()
            gain = float(forecast.gains[nearest])
        return forecast.reference.mapping(plane, settings), gain

    def finish(
        self, stack: FocalStack, full_size: FocalStack, reference: ReferenceView, gains: np.ndarray
    ) -> None:
        """Drop results that no stack after this one needs, and predict the next stack.

        :param full_size: the stack before decimation.
        """
        self._forecast = _Forecast(reference, stack.focus_dioptres, gains)
        self._decimated.retire([plane.image for plane in full_size.planes])
        images = [plane.image for plane in stack.planes]
        self._analyses.retire(images)
        self._encoded.retire(images)
        self.pairs.retain(
            plane.registration
            for plane in self._analyses.values()
            if plane.registration is not None
        )

    def clear(self) -> None:
        """Drop all results and the prediction."""
        self._forecast = self._curvature = None
        self._decimated.clear()
        self._analyses.clear()
        self._encoded.clear()
        self.pairs.retain(())
