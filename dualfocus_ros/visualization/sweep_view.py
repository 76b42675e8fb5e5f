# SPDX-License-Identifier: Apache-2.0
"""Contents of one sweep on the sweep page."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera


@dataclass(frozen=True, eq=False)
class SweepView:
    """Depth of one sweep with its planes and other outputs; None where unknown.

    :param name: entry in the list of sweeps.
    :param depth: (H, W) float32 metres with the special values of REP 117.
    :param sigma: (H, W) float32 metres.
    :param confidence: (H, W) uint8, 255 times a probability.
    :param all_in_focus: (H, W, 3) RGB or (H, W) grey, uint8.
    :param focus_dioptres: (N,) focus of the planes.
    :param planes: the images of the planes, (H', W', 3) or (H', W') uint8 each.
    :param probability: (N, H, W) float32 focus probability.
    :param camera: intrinsics of the depth image.
    :param limits: depth limits of the estimate, near and far, in metres.
    :param facts: further properties, name to text.
    """

    name: str
    depth: np.ndarray
    sigma: np.ndarray | None = None
    confidence: np.ndarray | None = None
    all_in_focus: np.ndarray | None = None
    focus_dioptres: np.ndarray | None = None
    planes: tuple[np.ndarray, ...] | None = None
    probability: np.ndarray | None = None
    camera: PinholeCamera | None = None
    limits: tuple[float, float] | None = None
    facts: dict[str, str] = field(default_factory=dict)
