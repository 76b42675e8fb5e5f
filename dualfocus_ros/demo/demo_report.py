# SPDX-License-Identifier: Apache-2.0
"""Metrics and pictures of a demo run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
import math
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_ros.demo.collector import DemoCollector, ExampleSweep
from dualfocus_ros.evaluation.metrics import mean_errors
from dualfocus_ros.io.image_files import save_png
from dualfocus_ros.io.ply import write_ply
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.visualization.cloud_rendering import render_oblique_view
from dualfocus_ros.visualization.colour_scales import depth_scale, error_scale, sigma_scale
from dualfocus_ros.visualization.panel import Tile, compose_panel, plane_tiles

PERCENTILES = (50, 90, 99)


def compute_metrics(collector: DemoCollector, seconds: float) -> dict[str, Any]:
    """Return all measurements for JSON; None where nothing was measured."""
    errors = [depth.errors for depth in collector.depths if depth.errors is not None]
    mean = asdict(mean_errors(errors)) if errors else {}
    times = [depth.receipt_ns for depth in collector.depths]
    span = (max(times) - min(times)) * 1e-9 if len(times) > 1 else 0.0
    infos = collector.infos
    latest = infos[-1] if infos else None
    return {
        'depths': len(collector.depths),
        'compared': len(errors),
        'seconds': round(seconds, 2),
        'rmse_m': _number(mean.get('rmse')),
        'abs_rel': _number(mean.get('abs_rel')),
        'delta1': _number(mean.get('delta1')),
        'valid': _number(mean.get('coverage')),
        'depth_rate_hz': _number((len(times) - 1) / span if span > 0.0 else math.nan),
        'image_rate_hz': _number(collector.images / seconds if seconds > 0.0 else math.nan),
        'latency_ms': _percentiles([info.latency_ms for info in infos]),
        'receipt_latency_ms': _percentiles(collector.info_latencies_ms),
        'inference_ms': _percentiles([info.inference_ms for info in infos]),
        'planes': len(latest.stamps) if latest else None,
        'flagged': sum(bool(info.flags) for info in infos),
        'each': _each(collector),
        'model': str(latest.model) if latest else None,
        'device': str(latest.device) if latest else None,
    }


def format_summary(metrics: dict[str, Any], scene: str) -> str:
    """Return the metrics as lines of text."""
    latency, receipt = metrics['latency_ms'], metrics['receipt_latency_ms']
    return '\n'.join(
        [
            f'scene           {scene}, {metrics["planes"]} planes a depth, '
            f'{metrics["model"]} on {metrics["device"]}',
            f'depth images    {metrics["depths"]} in {metrics["seconds"]:.1f} s, '
            f'{_text(metrics["depth_rate_hz"], ".2f")} Hz '
            f'(camera {_text(metrics["image_rate_hz"], ".1f")} Hz)',
            f'against truth   RMSE {_text(metrics["rmse_m"], ".4f")} m, '
            f'AbsRel {_text(metrics["abs_rel"], ".4f")}, '
            f'delta1 {_text(metrics["delta1"], ".4f")}, '
            f'{_text(100 * (metrics["valid"] or 0.0), ".1f")} % valid '
            f'(mean of {metrics["compared"]})',
            f'latency         {_spread(latency)} from the last plane to publication',
            f'                {_spread(receipt)} to receipt',
        ]
    )


def write_pictures(
    folder: Path, example: ExampleSweep, metrics: dict[str, Any], scene: str
) -> None:
    """Write panel.png and cloud.ply of one depth image."""
    points = example.points[..., :3]
    # The fourth value is 0x00RRGGBB: little-endian bytes B G R 0.
    colours = np.ascontiguousarray(example.points).view(np.uint8)[..., 14:11:-1]
    write_ply(folder / 'cloud.ply', points, colours)

    scale = depth_scale(example.truth)
    with np.errstate(invalid='ignore'):
        error = example.depth - example.truth
    error = np.where(np.isfinite(error), error, np.nan)
    panel = compose_panel(
        [
            plane_tiles(example.planes, example.focus_dioptres),
            [
                Tile('All in focus', example.all_in_focus),
                Tile('Depth', example.depth, scale),
                Tile('Truth', example.truth, scale),
            ],
            [
                Tile('Cloud, from the side', render_oblique_view(points, colours)),
                Tile('Sigma: one standard deviation', example.sigma, sigma_scale(example.sigma)),
                Tile('Error: depth - truth', error, error_scale(error)),
            ],
        ],
        title=f'Depth from focus: {scene}',
        subtitle=(
            f'{len(example.planes)} planes a sweep;  RMSE {_text(metrics["rmse_m"], ".3f")} m,  '
            f'AbsRel {_text(metrics["abs_rel"], ".3f")},  '
            f'delta1 {_text(metrics["delta1"], ".3f")}  over {metrics["compared"]} depth images'
        ),
    )
    save_png(folder / 'panel.png', panel)


def _each(collector: DemoCollector) -> list[dict[str, Any]]:
    """Return stamp, planes, flags and errors of each depth image."""
    infos = {to_ns(info.header.stamp): info for info in collector.infos}
    rows = []
    for depth in collector.depths:
        info, errors = infos.get(depth.stamp_ns), depth.errors
        rows.append(
            {
                'stamp_ns': depth.stamp_ns,
                'planes': len(info.stamps) if info else None,
                'flags': int(info.flags) if info else None,
                'rmse_m': _number(errors.rmse) if errors else None,
                'abs_rel': _number(errors.abs_rel) if errors else None,
            }
        )
    return rows


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        **{f'p{p}': round(float(np.percentile(values, p)), 1) for p in PERCENTILES},
        'max': round(float(max(values)), 1),
    }


def _spread(values: dict[str, float] | None) -> str:
    if values is None:
        return 'unknown'
    return ', '.join(f'{name} {value:.0f} ms' for name, value in values.items())


def _number(value: float | None) -> float | None:
    return round(float(value), 5) if value is not None and math.isfinite(value) else None


def _text(value: float | None, form: str) -> str:
    return 'unknown' if value is None else format(value, form)
