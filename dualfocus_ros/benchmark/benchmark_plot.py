# SPDX-License-Identifier: Apache-2.0
"""Benchmark figure: time by planes and by pixels, and time by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.benchmark.report_cells import base_cell
from dualfocus_ros.io.figures import figure_to_array, set_log_scale

_MARKS = 'osD^vP*X'


def scaling_figure(report: Mapping[str, Any]) -> np.ndarray:
    """Return (H, W, 3) uint8: time over planes, time over pixels, stages of DualFocus models."""
    at, methods = report['base'], report['methods']
    figure = Figure(figsize=(14, 4.8), dpi=110, layout='constrained')
    by_planes, by_pixels, stages = figure.subplots(1, 3)
    for number, method in enumerate(methods):
        style = {'color': f'C{number}', 'marker': _MARKS[number % len(_MARKS)], 'markersize': 5}
        cells = method['cells']
        at_size = [c for c in cells if (c['width'], c['height']) == (at['width'], at['height'])]
        at_count = sorted(
            (c for c in cells if c['planes'] == at['planes']),
            key=lambda c: c['width'] * c['height'],
        )
        _line(by_planes, [c['planes'] for c in at_size], at_size, method['name'], style)
        _line(
            by_pixels,
            [c['width'] * c['height'] / 1e6 for c in at_count],
            at_count,
            method['name'],
            style,
        )
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


def _line(axes: Any, x: list[float], cells: list[Any], label: str, style: dict[str, Any]) -> None:
    spread = [cell['total_ms'] for cell in cells]
    middle = np.array([s['p50'] for s in spread])
    low, high = np.array([s['p10'] for s in spread]), np.array([s['p90'] for s in spread])
    bars = np.abs(np.stack([middle - low, high - middle]))
    axes.errorbar(x, middle, bars, capsize=2, linewidth=1.3, label=label, **style)


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
    largest = max(cell['total_ms']['p50'] for _, cell in rows)
    # Stages too short to be visible are summed.
    shown = [
        name
        for name in names
        if max(c['stages'].get(name, {'p50': 0.0})['p50'] for _, c in rows) > 0.02 * largest
    ]
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    parts = {
        name: np.array([c['stages'].get(name, {'p50': 0.0})['p50'] for _, c in rows])
        for name in names
    }
    rest = sum((parts[name] for name in names if name not in shown), np.zeros(len(rows)))
    for number, (name, values) in enumerate(
        [*((name, parts[name]) for name in shown), ('other stages', rest)]
    ):
        axes.barh(places, values, left=left, color=f'C{number + 2}', label=name)
        left += values
    axes.set_yticks(places, [name for name, _ in rows], fontsize=8)
    axes.set(xlabel='ms, median', title=f'{at["planes"]} x {at["width"]} x {at["height"]}')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, axis='x')
