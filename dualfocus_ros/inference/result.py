# SPDX-License-Identifier: Apache-2.0
"""What the pipeline is asked for and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.camera.pinhole import PinholeCamera


@dataclass(frozen=True)
class OutputRequest:
    """Which products somebody wants; depth is always computed, the others only when asked."""

    sigma: bool = False
    confidence: bool = False
    all_in_focus: bool = False
    points: bool = False
    points_decimated: bool = False
    planes: bool = False


@dataclass(frozen=True, eq=False)
class DepthResult:
    """Depth of one focal stack in the geometry of its reference plane.

    :param depth: (H, W) float32 metres along the optical axis; NaN invalid, -inf nearer than the
        near limit, +inf farther than the far limit (REP 117), or beyond the planes on a side
        where the sweep lost its last ones.
    :param sigma: (H, W) float32, one standard deviation in metres, NaN where depth is not finite.
    :param confidence: (H, W) uint8, 255 times the probability that the inverse depth is right to
        half the mean spacing of the planes; 0 where depth is NaN or beyond planes that were lost.
    :param all_in_focus: (H, W, 3) uint8 RGB.
    :param points: (H, W, 4) float32, x y z in metres in the optical frame and the colour packed
        as 0x00RRGGBB in the bits of the fourth value; NaN where depth is not finite.
    :param points_decimated: (M, 4) float32 finite points of the same form, fewer.
    :param planes: (N, H, W, 3) uint8 RGB, the planes as the network saw them, in the geometry of
        the reference plane and the order of ``focus_dioptres``.
    :param probability: (N, H, W) float32, the focus probability p_n of each of them; sums to one.
    :param camera: intrinsics of the reference plane, None when no plane had any.
    :param saturated: whether a plane is clipped to white in more than a few pixels.
    :param alignment: measured displacement of the planes, in pixels before decimation; None with
        ``alignment='off'``.
    :param gains: (N,) what the light of each plane was multiplied by.
    :param stage_ms: milliseconds spent per stage.
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
        """Return whether a plane was displaced by more than ``limit`` of its pixels."""
        return self.alignment is not None and self.alignment.max_displacement_px > limit
