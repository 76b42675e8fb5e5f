# SPDX-License-Identifier: Apache-2.0
"""Sweep views computed by the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.visualization.sweep_view import SweepView

_ALL_OUTPUTS = OutputRequest(sigma=True, confidence=True, all_in_focus=True, planes=True)


def compute_sweep_view(
    stack: FocalStack, estimator: Any, settings: EstimatorSettings, name: str
) -> SweepView:
    """Estimate a stack with all outputs; planes are in the geometry of the depth.

    :param estimator: a :class:`~dualfocus_ros.inference.estimator.DepthEstimator`.
    """
    estimator.settings = settings
    result = estimator.estimate(stack, _ALL_OUTPUTS)
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
    facts = {**recorded.facts, 'curves': f'computed with {computed.facts["model"]}'}
    return replace(
        recorded,
        focus_dioptres=computed.focus_dioptres,
        planes=computed.planes,
        probability=computed.probability,
        limits=recorded.limits or computed.limits,
        camera=recorded.camera or computed.camera,
        facts=facts,
    )
