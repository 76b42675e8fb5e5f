# SPDX-License-Identifier: Apache-2.0
"""Plot of the expected depth error of a lens by distance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dualfocus_ros.camera.depth_resolution import MAX_RELATIVE_ERROR, depth_error
from dualfocus_ros.camera.lens_report import LensReport
from dualfocus_ros.io.atomic_files import atomic_write


def save_lens_plot(path: Path, report: LensReport, title: str) -> None:
    """Write a PNG: error by distance on logarithmic axes, planes of the sweep, range limit."""
    # matplotlib takes half a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    far = report.far if math.isfinite(report.far) else max(4.0 * report.limit, 4.0 * report.near)
    distance = np.geomspace(report.near, far, 200)
    error = np.array([depth_error(z, report.kappa, report.blur_error) for z in distance])
    figure = Figure(figsize=(8, 5), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(distance, error, linewidth=2, label=f'for {report.blur_error:g} px of blur')
    visible = [1.0 / q for q in report.planes if q > 0.0 and 1.0 / q <= far * 1.001]
    at_infinity = '' if len(visible) == len(report.planes) else ', one at infinity'
    axes.plot(
        visible,
        [depth_error(z, report.kappa, report.blur_error) for z in visible],
        'o',
        color='C1',
        clip_on=False,
        zorder=3,
        label=f'{len(report.planes)} planes, blur between them up to {report.blur:g} px'
        f'{at_infinity}',
    )
    for share, style in ((MAX_RELATIVE_ERROR, '--'), (0.01, ':')):
        axes.plot(
            distance,
            share * distance,
            color='grey',
            linestyle=style,
            linewidth=1,
            label=f'{share:.0%} of the depth',
        )
    if report.near < report.limit < far:
        axes.axvspan(report.limit, far, color='C3', alpha=0.12, linewidth=0)
        axes.axvline(report.limit, color='C3', label=f'range limit, {report.limit:.3g} m')
    axes.set(
        xscale='log',
        yscale='log',
        xlabel='distance, m',
        ylabel='expected depth error, m',
        xlim=(report.near, far),
        title=f'{title}: {report.kappa:.3g} px per dioptre',
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_formatter(FuncFormatter(_label_2_3_5))
    axes.grid(alpha=0.3, which='both')
    axes.legend(loc='upper left')
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png')


def _label_2_3_5(value: float, _: int) -> str:
    """Label 2, 3 and 5 between the powers of ten."""
    leading = value / 10.0 ** math.floor(math.log10(value))
    return f'{value:g}' if round(leading, 6) in (2.0, 3.0, 5.0) else ''
