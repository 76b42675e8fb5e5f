# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation: example maps, error by depth, calibration of sigma."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.evaluation.method_interface import Case, evenly_spaced_planes
from dualfocus_ros.evaluation.metric_accumulator import DatasetResult
from dualfocus_ros.io.figures import figure_to_array
from dualfocus_ros.io.image_files import save_png
from dualfocus_ros.visualization.colour_scales import (
    ColourScale,
    depth_scale,
    error_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.panel import Tile, compose_panel

SHOWN_PLANES, SHOWN_METHODS = 5, 5


def write_figures(folder: Path, result: DatasetResult) -> list[str]:
    """Write the figures of a data set as PNG; return their file names."""
    slug = re.sub(r'[^a-z0-9]+', '-', result.dataset.name.lower()).strip('-')
    accumulators = result.accumulators.values()
    figures = {}
    if result.example is not None:
        figures[f'{slug}_example.png'] = example_panel(result)
    if any('depth' in a.groups for a in accumulators):
        figures[f'{slug}_depth.png'] = error_by_depth(result)
    if any(a.pixel_count for a in accumulators):
        figures[f'{slug}_sigma.png'] = calibration_curve(result)
    for name, image in figures.items():
        save_png(folder / name, image)
    return list(figures)


def example_panel(result: DatasetResult) -> np.ndarray:
    """Return images of the planes and the truth, and depth, error and sigma of each method."""
    assert result.example is not None
    case, estimates = result.example
    shown = evenly_spaced_planes(len(case.focus), SHOWN_PLANES)
    order = np.argsort(case.focus, kind='stable')[::-1]
    images = case.images
    if images.dtype != np.uint8:
        images = (images * 255.0 + 0.5).clip(0, 255).astype(np.uint8)
    planes = [Tile(f'focus {_focus_label(case, n)}', images[n]) for n in order[shown]]
    known = np.isfinite(case.truth)
    values = {n: case.value(e.position).astype(np.float32) for n, e in estimates.items()}
    scale = _value_scale(case, case.truth if known.any() else next(iter(values.values())))
    names = list(values)[:SHOWN_METHODS]
    rows = [planes]
    depths = [Tile(name, values[name], scale) for name in names]
    rows.append(([Tile('truth', case.truth, scale)] if known.any() else []) + depths)
    if known.any():
        errors = {name: values[name] - case.truth for name in names}
        best = min(errors.values(), key=lambda error: float(np.nanmean(np.abs(error))))
        common = _with_unit(error_scale(best), case)
        rows.append([Tile(f'{name}: error', errors[name], common) for name in names])
    # In words: not every font has a Greek sigma.
    sigmas = [
        Tile(f'{name}: sigma', sigma, _with_unit(sigma_scale(sigma), case, position=True))
        for name in names
        if (sigma := estimates[name].sigma) is not None
    ]
    if len(sigmas) > 2:
        rows.append(sigmas)
    else:
        rows[-1] += sigmas
    protocol = result.protocol.split(' (')[0]
    count, height, width = case.images.shape[:3]
    subtitle = f'{protocol}; {count} planes, {width}x{height}; maps in {case.unit}'
    return compose_panel(rows, title=f'{result.dataset.name}: {case.name}', subtitle=subtitle)


def error_by_depth(result: DatasetResult) -> np.ndarray:
    """Return a plot of mean absolute error over depth, one line per method, (H, W, 3) uint8."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    for name, accumulator in result.accumulators.items():
        if 'depth' not in accumulator.groups:
            continue
        rows = [row for row in accumulator.groups['depth'].rows() if row['share'] != 0.0]
        labels = [str(row['pixels']) for row in rows]
        axes.plot(labels, [row['mae'] for row in rows], marker='o', label=name)
    axes.set_ylim(bottom=0.0)
    title = f'{result.dataset.name}: error by depth'
    axes.set(ylabel=f'mean absolute error, {result.unit}', title=title)
    axes.tick_params(axis='x', labelrotation=30)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure_to_array(figure)


def calibration_curve(result: DatasetResult) -> np.ndarray:
    """Return a plot of the share of errors within an interval over its nominal share."""
    figure = Figure(figsize=(5, 5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color='grey', linestyle='--', label='calibrated')
    for name, accumulator in result.accumulators.items():
        if curve := accumulator.calibration():
            axes.plot(*np.array(curve).T, marker='.', label=name)
    axes.set(xlabel='expected share of errors', ylabel='share of errors within')
    axes.set(xlim=(0, 1), ylim=(0, 1), title=f'{result.dataset.name}: calibration of σ')
    axes.grid(alpha=0.3)
    axes.legend()
    return figure_to_array(figure)


def _value_scale(case: Case, values: np.ndarray) -> ColourScale:
    if case.metric:
        return depth_scale(values)
    known = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(known, (1, 99)))
    # Near is bright: small depth, large disparity.
    colours = depth_scale(np.ones((1, 1), np.float32)).colours[::-1]
    return ColourScale(low, max(high, low + 1e-6), colours, unit=case.unit)


def _with_unit(scale: ColourScale, case: Case, position: bool = False) -> ColourScale:
    unit = {'dioptres': '1/m'}.get(case.position_unit, case.unit) if position else case.unit
    return replace(scale, unit=unit)


def _focus_label(case: Case, index: int) -> str:
    focus = float(case.focus[index])
    return f'{1.0 / focus:.2f} m' if case.metric and focus > 0.0 else f'{focus:.3g} {case.unit}'
