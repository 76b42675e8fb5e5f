# SPDX-License-Identifier: Apache-2.0
"""Benchmark figure: time by planes and by pixels, and time by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.benchmark.ratios import base_cell, cells_by_planes, cells_by_size, stages_ms
from dualfocus_ros.io.figures import figure_to_array, set_log_scale

_MARKS = 'osD^vP*X'


def scaling_figure(report: Mapping[str, Any]) -> np.ndarray:
    """Return (H, W, 3) uint8: time over planes, time over pixels, stages of DualFocus models."""
    at, methods = report['base'], report['methods']
    figure = Figure(figsize=(14, 4.8), dpi=110, layout='constrained')
    by_planes, by_pixels, stages = figure.subplots(1, 3)
    for number, method in enumerate(methods):
        style = {'color': f'C{number}', 'marker': _MARKS[number % len(_MARKS)], 'markersize': 5}
        style['label'] = method['name']
        cells = cells_by_planes(method, report)
        _line(by_planes, [c['planes'] for c in cells], cells, style)
        cells = cells_by_size(method, report)
        _line(by_pixels, [c['width'] * c['height'] / 1e6 for c in cells], cells, style)
    by_planes.set(xlabel='planes', title=f'{at["width"]} x {at["height"]}')
    by_planes.set_xticks(sorted({c['planes'] for m in methods for c in m['cells']}))
    by_pixels.set(xlabel='megapixels of a plane', title=f'{at["planes"]} planes')
    for axes in (by_planes, by_pixels):
        axes.set_ylabel('ms, median; bars from 10 to 90 %')
        set_log_scale(axes)
    by_planes.legend(fontsize=8)
    _stage_bars(stages, report)
    figure.suptitle(f'{report["machine"]}; {report["device"]}', fontsize=10)
    return figure_to_array(figure)


def _line(axes: Any, x: list[float], cells: list[Any], style: dict[str, Any]) -> None:
    low, middle, high = (
        np.array([cell['total_ms'][p] for cell in cells]) for p in ('p10', 'p50', 'p90')
    )
    bars = np.abs(np.stack([middle - low, high - middle]))
    axes.errorbar(x, middle, bars, capsize=2, linewidth=1.3, **style)


def _stage_bars(axes: Any, report: Mapping[str, Any]) -> None:
    """Draw the time by stage of a whole stack, of the last plane and of a frame."""
    at, rows = report['base'], []
    for method in report['methods']:
        if not method['ours']:
            continue
        rows.append((method['name'], base_cell(method, report)))
        for key, title in (('last_plane', 'last plane'), ('sliding', 'sliding')):
            if method[key] is not None:
                rows.append((f'{method["name"]}, {title}', method[key]))
    if not rows:
        axes.axis('off')
        return
    names = list(dict.fromkeys(name for _, cell in rows for name in cell['stages']))
    parts = {name: np.array([stages_ms(cell, [name]) for _, cell in rows]) for name in names}
    # Stages too short to be visible are summed.
    visible = 0.02 * max(cell['total_ms']['p50'] for _, cell in rows)
    shown = {name: values for name, values in parts.items() if values.max() > visible}
    hidden = [values for name, values in parts.items() if name not in shown]
    shown['other stages'] = sum(hidden, np.zeros(len(rows)))
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for number, (name, values) in enumerate(shown.items()):
        axes.barh(places, values, left=left, color=f'C{number + 2}', label=name)
        left += values
    axes.set_yticks(places, [name for name, _ in rows], fontsize=8)
    axes.set(xlabel='ms, median', title=f'{at["planes"]} x {at["width"]} x {at["height"]}')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, axis='x')
