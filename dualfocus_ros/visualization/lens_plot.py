# SPDX-License-Identifier: Apache-2.0
"""Plot of the expected depth error of a lens by distance."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.camera.depth_resolution import MAX_RELATIVE_ERROR, LensReport, depth_error
from dualfocus_ros.io.figures import figure_to_array, set_log_scale
from dualfocus_ros.io.image_files import save_png


def save_lens_plot(path: Path, report: LensReport, title: str) -> None:
    """Write a PNG: error by distance on logarithmic axes, planes of the sweep, range limit."""
    far = report.far if math.isfinite(report.far) else max(4.0 * report.limit, 4.0 * report.near)
    distance = np.geomspace(report.near, far, 200)
    error = np.array([depth_error(z, report.kappa, report.blur_error) for z in distance])
    figure = Figure(figsize=(8, 5), dpi=120, layout='constrained')
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
        xlabel='distance, m',
        ylabel='expected depth error, m',
        xlim=(report.near, far),
        title=f'{title}: {report.kappa:.3g} px per dioptre',
    )
    set_log_scale(axes, 'xy')
    axes.legend(loc='upper left')
    save_png(path, figure_to_array(figure))
