# SPDX-License-Identifier: Apache-2.0
"""Analysis of a stack on the CPU: geometry, motion, exposure and clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualfocus_ros.alignment.align import align
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import ViewMapping, source_coordinates
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.estimator_cache import EstimatorCache
from dualfocus_ros.inference.exposure import exposure_gains
from dualfocus_ros.inference.reference_view import ReferenceView, reference_view
from dualfocus_ros.inference.resampling import SourcePositions
from dualfocus_ros.inference.settings import EstimatorSettings


@dataclass(frozen=True, eq=False)
class StackAnalysis:
    """Parameters that align the planes of a stack; sequences are in the order of its planes.

    :param reference: camera of the reference plane.
    :param mappings: mapping of each plane onto the reference plane, without motion.
    :param alignment: measured motion in pixels of the planes; None with ``alignment='off'``.
    :param motion: (3, 3) motion to be corrected; None for a plane at rest.
    :param positions: position of each reference pixel in the plane, all of the above combined.
    :param gains: (N,) factors on linear light.
    :param clipped: and ``overexposed`` as in ``PlaneAnalysis``.
    """

    reference: ReferenceView
    mappings: tuple[ViewMapping, ...]
    alignment: Alignment | None
    motion: tuple[np.ndarray | None, ...]
    positions: tuple[SourcePositions, ...]
    gains: np.ndarray
    clipped: tuple[np.ndarray | None, ...]
    overexposed: tuple[np.ndarray | None, ...]

    @property
    def camera(self) -> PinholeCamera | None:
        """Intrinsics of the rectified reference plane, None when no plane has any."""
        return self.reference.output if self.reference.calibrated else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the depth map, in pixels."""
        return self.reference.output.height, self.reference.output.width


def analyze_stack(
    stack: FocalStack, settings: EstimatorSettings, cache: EstimatorCache
) -> StackAnalysis:
    """Estimate motion, exposure and clipping of a stack."""
    reference = reference_view(stack, settings)
    mappings = tuple(reference.mapping(plane, settings) for plane in stack.planes)
    planes = [
        cache.analyze(plane, mapping, settings)
        for plane, mapping in zip(stack.planes, mappings, strict=True)
    ]
    alignment = None
    if settings.alignment != 'off':
        alignment = align(
            [plane.registration for plane in planes if plane.registration is not None],
            stack.focus_dioptres,
            model='shift_scale',
            reference=stack.reference,
            pairs=cache.pairs,
        )
    motion: list[np.ndarray | None] = [None] * len(planes)
    if settings.alignment == 'correct' and alignment is not None:
        motion = [
            None if alignment.is_identity(index) else transform
            for index, transform in enumerate(alignment.transforms)
        ]
    gains = np.ones(len(planes))
    if settings.normalise_exposure:
        brightness = [plane.brightness for plane in planes if plane.brightness is not None]
        gains = exposure_gains(brightness, stack.reference)
    return StackAnalysis(
        reference=reference,
        mappings=mappings,
        alignment=alignment,
        motion=tuple(motion),
        positions=tuple(
            source_coordinates(mapping.view, mapping.output, correction)
            for mapping, correction in zip(mappings, motion, strict=True)
        ),
        gains=gains,
        clipped=tuple(plane.clipped for plane in planes),
        overexposed=tuple(plane.overexposed for plane in planes),
    )
