# SPDX-License-Identifier: Apache-2.0
"""Release of trained weights: calibration of sigma, metrics, weights file and manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dualfocus_ros.evaluation.metric_accumulator import unimodal_mask
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.training.losses import ONE_SIGMA
from dualfocus_ros.training.model_adapters import ModelAdapter, predict_stack
from dualfocus_ros.training.stack_generator import TrainingStack


@dataclass(frozen=True)
class SyntheticMetrics:
    """Metrics on held-out rendered stacks; errors as shares of the sweep in inverse depth.

    :param within_one_sigma: share of pixels whose error is below the predicted sigma.
    :param unimodal: share of pixels whose focus probability has a single peak.
    """

    stacks: int
    planes: int
    mean_absolute_error: float
    median_absolute_error: float
    within_one_sigma: float
    unimodal: float


def evaluate_stacks(
    adapter: ModelAdapter, network: nn.Module, stacks: Iterable[TrainingStack], planes: int
) -> tuple[SyntheticMetrics, np.ndarray]:
    """Measure a network on complete stacks of ``planes`` evenly spaced planes.

    :param network: in evaluation mode, on the device of the stacks.
    :returns: metrics, and |error| / sigma of each pixel within the sweep.
    """
    errors, ratios, single_peak = [], [], []
    for stack in stacks:
        chosen, position, sigma, probability = predict_stack(adapter, network, stack, planes)
        truth = stack.truth.cpu().numpy()
        low, high = stack.focus[chosen[[0, -1]]]
        # Excludes unknown truth (NaN).
        inside = (truth >= low) & (truth <= high)
        error = np.abs(position - truth)[inside]
        errors.append(error / (high - low))
        ratios.append(error / sigma[inside])
        single_peak.append(unimodal_mask(probability)[inside])
    error_values, ratio_values = np.concatenate(errors), np.concatenate(ratios)
    metrics = SyntheticMetrics(
        stacks=len(errors),
        planes=planes,
        mean_absolute_error=round(float(error_values.mean()), 5),
        median_absolute_error=round(float(np.median(error_values)), 5),
        within_one_sigma=round(float((ratio_values < 1.0).mean()), 4),
        unimodal=round(float(np.concatenate(single_peak).mean()), 4),
    )
    return metrics, ratio_values


def calibrate_sigma(
    adapter: ModelAdapter, network: nn.Module, stacks: Sequence[TrainingStack], planes: int
) -> float | None:
    """Scale the predicted sigma so that 68 % of the errors are below it.

    :returns: the factor; None if the network has no scalable sigma.
    """
    _, ratios = evaluate_stacks(adapter, network, stacks, planes)
    factor = float(np.quantile(ratios, ONE_SIGMA))
    return factor if adapter.scale_sigma(network, factor) else None


def write_release(
    folder: Path,
    name: str,
    adapter: ModelAdapter,
    network: nn.Module,
    recipe: dict[str, Any],
    metrics: SyntheticMetrics,
) -> Path:
    """Write the weights file and its entry in the manifest; return the file."""
    file = folder / f'{name}.safetensors'
    digest = adapter.save(file, network)
    manifest = folder / 'manifest.json'
    content = json.loads(manifest.read_text()) if manifest.exists() else {'models': {}}
    content['models'][name] = {
        'file': file.name,
        'sha256': digest,
        'parameters': sum(p.numel() for p in network.parameters()),
        'recipe': recipe,
        'held_out_rendered_stacks': asdict(metrics),
    }
    write_text(manifest, json.dumps(content, indent=2) + '\n')
    return file
