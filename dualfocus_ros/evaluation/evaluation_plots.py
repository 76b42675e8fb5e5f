# SPDX-License-Identifier: Apache-2.0
"""Figures of a run: an example per data set, error by depth, and how far sigma can be trusted."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
import numpy as np

from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.evaluator import DatasetResult
from dualfocus_ros.io.png import save_png
from dualfocus_ros.visualization.colour_scales import (
    ColourScale,
    depth_scale,
    error_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.panel import Tile, compose_panel

SHOWN_PLANES = 5
# Wide images of few methods need no more than this in a row.
SHOWN_METHODS = 5


def write_figures(folder: Path, result: DatasetResult) -> list[str]:
    """Write the figures of a data set as PNG; return their file names."""
    slug = re.sub(r'[^a-z0-9]+', '-', result.dataset.name.lower()).strip('-')
    names = []
    if result.example is not None:
        name = f'{slug}_example.png'
        save_png(folder / name, example_panel(result))
        names.append(name)
    if any('depth' in tally.bins for tally in result.accumulators.values()):
        name = f'{slug}_depth.png'
        save_png(folder / name, error_by_depth(result))
        names.append(name)
    if any(tally.pixels for tally in result.accumulators.values()):
        name = f'{slug}_sigma.png'
        save_png(folder / name, calibration_curve(result))
        names.append(name)
    return names


def example_panel(result: DatasetResult) -> np.ndarray:
    """Return planes and truth; per method its depth, its error and its sigma."""
    assert result.example is not None
    case, estimates = result.example
    shown = np.linspace(0, len(case.focus) - 1, min(SHOWN_PLANES, len(case.focus))).astype(int)
    order = np.argsort(case.focus, kind='stable')[::-1]
    planes = [
        Tile(f'focus {_focus_label(case, order[n])}', _to_uint8(case.images[order[n]]))
        for n in shown
    ]
    known = np.isfinite(case.truth)
    values = {name: _values(case, e.position) for name, e in estimates.items()}
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
    # Not every font has a Greek sigma.
    sigmas = [
        Tile(f'{name}: sigma', sigma, _with_unit(sigma_scale(sigma), case, position=True))
        for name in names
        if (sigma := estimates[name].sigma) is not None
    ]
    if len(sigmas) > 2:
        rows.append(sigmas)
    else:
        rows[-1] += sigmas
    how = result.protocol.split(' (')[0]
    subtitle = f'{how}; {len(case.focus)} planes, {_size_label(case)}; maps in {case.unit}'
    return compose_panel(rows, title=f'{result.dataset.name}: {case.name}', subtitle=subtitle)


def error_by_depth(result: DatasetResult) -> np.ndarray:
    """Return a plot of the mean absolute error over ranges of depth, one line per method."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    labels: list[str] = []
    for name, tally in result.accumulators.items():
        if 'depth' not in tally.bins:
            continue
        rows = [row for row in tally.bins['depth'].rows() if row['share'] != 0.0]
        labels = [str(row['pixels']) for row in rows]
        axes.plot(labels, [row['mae'] for row in rows], marker='o', label=name)
    axes.set_ylabel(f'mean absolute error, {result.unit}')
    axes.set_ylim(bottom=0.0)
    axes.set_title(f'{result.dataset.name}: error by depth')
    axes.tick_params(axis='x', labelrotation=30)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure_to_array(figure)


def calibration_curve(result: DatasetResult) -> np.ndarray:
    """Return a plot of how many errors lie within sigma times what a normal error would need."""
    figure = Figure(figsize=(5, 5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color='grey', linestyle='--', label='calibrated')
    for name, tally in result.accumulators.items():
        curve = tally.calibration()
        if curve:
            axes.plot(*np.array(curve).T, marker='.', label=name)
    axes.set(
        xlabel='expected share of errors',
        ylabel='share of errors within',
        xlim=(0, 1),
        ylim=(0, 1),
        title=f'{result.dataset.name}: calibration of σ',
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure_to_array(figure)


def _values(case: Case, position: np.ndarray) -> np.ndarray:
    return np.asarray(case.value(position), dtype=np.float32)


def _value_scale(case: Case, values: np.ndarray) -> ColourScale:
    if case.metric:
        return depth_scale(values)
    known = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(known, (1, 99)))
    # Near is bright: a small depth, but a large disparity.
    colours = depth_scale(np.ones((1, 1), np.float32)).colours[::-1]
    return ColourScale(low, max(high, low + 1e-6), colours, unit=case.unit)


def _with_unit(scale: ColourScale, case: Case, position: bool = False) -> ColourScale:
    unit = {'dioptres': '1/m'}.get(case.position_unit, case.unit) if position else case.unit
    return ColourScale(scale.low, scale.high, scale.colours, scale.logarithmic, unit)


def _size_label(case: Case) -> str:
    return f'{case.images.shape[2]}x{case.images.shape[1]}'


def _focus_label(case: Case, index: int) -> str:
    focus = float(case.focus[index])
    return f'{1.0 / focus:.2f} m' if case.metric and focus > 0.0 else f'{focus:.3g} {case.unit}'


def _to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    return np.asarray((image * 255.0 + 0.5).clip(0, 255), dtype=np.uint8)


def figure_to_array(figure: Figure) -> np.ndarray:
    """Return a Matplotlib figure as (H, W, 3) uint8 RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def set_log_scale(axes: Any) -> None:
    """Make the y axis of Matplotlib axes logarithmic, with plain numbers at 1, 2, 3 and 5."""
    axes.set_yscale('log')
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
