# SPDX-License-Identifier: Apache-2.0
"""Contents of one sweep on the sweep page, and their computation by the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings


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


def compute_sweep_view(
    stack: FocalStack, estimator: Any, settings: EstimatorSettings, name: str
) -> SweepView:
    """Estimate a stack with all outputs; planes are in the geometry of the depth.

    :param estimator: a :class:`~dualfocus_ros.inference.estimator.DepthEstimator`.
    """
    estimator.settings = settings
    request = OutputRequest(sigma=True, confidence=True, all_in_focus=True, planes=True)
    result = estimator.estimate(stack, request)
    return SweepView(
        name,
        result.depth,
        result.sigma,
        result.confidence,
        result.all_in_focus,
        result.focus_dioptres,
        tuple(result.planes),
        result.probability,
        result.camera,
        (settings.depth_min, settings.depth_max),
        {
            'sweep': str(stack.sweep_id),
            'planes': str(len(stack.planes)),
            'duration': f'{stack.sweep_duration_ns * 1e-9:.2f} s',
            'flags': ', '.join(stack.flags.labels) or 'none',
            'model': f'{estimator.model_name} on {estimator.device_name}',
        },
    )


def add_focus_curves(recorded: SweepView, computed: SweepView) -> SweepView:
    """Return a recorded sweep with the computed planes and focus curves of its stack."""
    if recorded.depth.shape != computed.depth.shape:
        return recorded
    return replace(
        recorded,
        focus_dioptres=computed.focus_dioptres,
        planes=computed.planes,
        probability=computed.probability,
        limits=recorded.limits or computed.limits,
        camera=recorded.camera or computed.camera,
        facts={**recorded.facts, 'curves': f'computed with {computed.facts["model"]}'},
    )
