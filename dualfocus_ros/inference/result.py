# SPDX-License-Identifier: Apache-2.0
"""Requested outputs and the result of an estimate."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.camera.pinhole import PinholeCamera


@dataclass(frozen=True)
class OutputRequest:
    """Outputs to compute in addition to depth; fields as in :class:`DepthResult`.

    :param planes: also requests ``probability``.
    """

    sigma: bool = False
    confidence: bool = False
    all_in_focus: bool = False
    points: bool = False
    points_decimated: bool = False
    planes: bool = False


@dataclass(frozen=True, eq=False)
class DepthResult:
    """Depth of one focal stack in the geometry of its reference plane.

    Outputs that were not requested are None.

    :param depth: (H, W) float32 metres along the optical axis; NaN invalid, -inf nearer than the
        near limit, +inf farther than the far limit (REP 117), or beyond the planes on a side
        where the sweep lost its last ones.
    :param focus_dioptres: (N,) focus of the planes in 1/m.
    :param reference: index of the reference plane.
    :param sigma: (H, W) float32, one standard deviation in metres, NaN where depth is not finite.
    :param confidence: (H, W) uint8, 255 times the probability of an error of the inverse depth
        below half the mean spacing of the planes; 0 where depth is NaN or beyond lost planes.
    :param all_in_focus: (H, W, 3) uint8 RGB.
    :param points: (H, W, 4) float32, x y z in metres in the optical frame, and the colour as
        0x00RRGGBB in the bits of the fourth value; NaN where depth is not finite. None without
        intrinsics.
    :param points_decimated: (M, 4) float32 finite points of the same form, fewer.
    :param planes: (N, H, W, 3) uint8 RGB, the aligned planes in the order of ``focus_dioptres``.
    :param probability: (N, H, W) float32, the focus probability p_n of each plane; sums to one.
    :param camera: intrinsics of the reference plane, None when no plane had any.
    :param saturated: whether a plane has too many clipped pixels.
    :param alignment: measured displacement of the planes, in pixels before decimation; None with
        ``alignment='off'``.
    :param gains: (N,) factors that were applied to the light of each plane.
    :param stage_ms: milliseconds by stage.
    """

    depth: np.ndarray
    focus_dioptres: np.ndarray
    reference: int
    sigma: np.ndarray | None = None
    confidence: np.ndarray | None = None
    all_in_focus: np.ndarray | None = None
    points: np.ndarray | None = None
    points_decimated: np.ndarray | None = None
    planes: np.ndarray | None = None
    probability: np.ndarray | None = None
    camera: PinholeCamera | None = None
    saturated: bool = False
    alignment: Alignment | None = None
    gains: np.ndarray | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)

    def moved(self, limit: float) -> bool:
        """Return whether a plane was displaced by more than ``limit`` pixels before decimation."""
        return self.alignment is not None and self.alignment.max_displacement_px > limit
