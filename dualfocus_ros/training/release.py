# SPDX-License-Identifier: Apache-2.0
"""Turns a trained network into shipped weights: sigma calibrated, measured, listed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualfocus_ros.data.rendered_stacks import RenderedStack
from dualfocus_ros.evaluation.measures import unimodal
from dualfocus_ros.network.model import DualFocus
from dualfocus_ros.network.weights import save_model

# Share of a normal distribution within one standard deviation.
ONE_SIGMA = 0.6827


@dataclass(frozen=True)
class SyntheticMetrics:
    """Errors on held-out rendered stacks, in shares of the sweep's range of inverse depth.

    :param within_one_sigma: share of pixels whose error is below the predicted sigma.
    :param unimodal: share of pixels whose focus probability has a single peak.
    """

    stacks: int
    planes: int
    mean_absolute_error: float
    median_absolute_error: float
    within_one_sigma: float
    unimodal: float


def measure(
    model: DualFocus, stacks: Iterable[RenderedStack], planes: int
) -> tuple[SyntheticMetrics, np.ndarray]:
    """Measure a network on whole stacks with ``planes`` evenly spaced planes each.

    :returns: the metrics, and |error| / sigma of every pixel inside the sweep's range.
    """
    errors, ratios, single_peak, count = [], [], [], 0
    with torch.inference_mode():
        for stack in stacks:
            chosen = np.linspace(0, len(stack.focus) - 1, planes).round().astype(int)
            focus = torch.from_numpy(stack.focus[chosen])
            images = torch.from_numpy(stack.images[chosen]).permute(0, 3, 1, 2).float() / 255.0
            prediction = model(images[None], focus[None])
            truth = torch.from_numpy(stack.position)
            span = focus[-1] - focus[0]
            inside = (truth >= focus[0]) & (truth <= focus[-1])
            error = (prediction.dioptres[0] - truth).abs()[inside]
            errors.append((error / span).numpy())
            ratios.append((error / prediction.sigma[0][inside]).numpy())
            single_peak.append(unimodal(prediction.probability[0].numpy())[inside.numpy()])
            count += 1
    error_values, ratio_values = np.concatenate(errors), np.concatenate(ratios)
    metrics = SyntheticMetrics(
        stacks=count,
        planes=planes,
        mean_absolute_error=round(float(error_values.mean()), 5),
        median_absolute_error=round(float(np.median(error_values)), 5),
        within_one_sigma=round(float((ratio_values < 1.0).mean()), 4),
        unimodal=round(float(np.concatenate(single_peak).mean()), 4),
    )
    return metrics, ratio_values


def calibrate_sigma(model: DualFocus, stacks: list[RenderedStack], planes: int) -> float:
    """Scale the predicted sigma so that 68 % of the errors lie within it; return the factor."""
    _, ratios = measure(model, stacks, planes)
    factor = float(np.quantile(ratios, ONE_SIGMA))
    model.sigma.scale(factor)
    return factor


def write_release(
    folder: Path, name: str, model: DualFocus, recipe: dict[str, Any], metrics: SyntheticMetrics
) -> str:
    """Write weights in half precision and their entry in the manifest; return the SHA-256."""
    file = f'{name}.safetensors'
    digest = save_model(folder / file, model)
    manifest = folder / 'manifest.json'
    content = json.loads(manifest.read_text()) if manifest.exists() else {'models': {}}
    content['models'][name] = {
        'file': file,
        'sha256': digest,
        'parameters': sum(p.numel() for p in model.parameters()),
        'recipe': recipe,
        'held_out_rendered_stacks': asdict(metrics),
    }
    partial = manifest.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=2) + '\n')
    os.replace(partial, manifest)
    return digest
