# SPDX-License-Identifier: Apache-2.0
"""Figure of a fit with its residuals, and colours."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
import numpy as np

MEASURED, MODEL, OTHER, OUT = '#1f5fa8', '#c8452d', '#4f8f4a', '#9aa0a8'
DPI = 110


def fit_figure(
    title: str,
    curve: tuple[np.ndarray, np.ndarray, str],
    points: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    names: tuple[str, str, str],
    labels: tuple[str, str] = ('measured', 'outlier'),
    three: bool = True,
) -> tuple[Figure, Any, Any]:
    """Return a figure of a fit and its residuals, the axes of the fit, and empty axes.

    :param curve: x, y and legend of the fitted curve.
    :param points: x, measured y, residuals, and whether each point was used.
    :param names: of x, y and the residuals.
    :param labels: legend of used and unused points.
    :param three: whether to add empty axes at the right, else None.
    """
    figure = Figure(figsize=(10 if three else 6, 4.5), dpi=DPI, layout='constrained')
    grid = figure.add_gridspec(2, 2 if three else 1, height_ratios=(3, 1))
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    right = figure.add_subplot(grid[:, 1]) if three else None
    figure.suptitle(title)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    x, measured, residuals, used = points
    upper.plot(*curve[:2], color=MODEL, label=curve[2])
    upper.plot(x[used], measured[used], 'o', color=MEASURED, label=labels[0])
    if not used.all():
        upper.plot(x[~used], measured[~used], 'x', color=OUT, label=labels[1])
    upper.tick_params(labelbottom=False)
    upper.set(ylabel=names[1])
    upper.legend()
    lower.axhline(0.0, color=MODEL, linewidth=1.0)
    lower.plot(x[used], residuals[used], 'o', color=MEASURED, markersize=4)
    lower.plot(x[~used], residuals[~used], 'x', color=OUT, markersize=4)
    limit = max(1.25 * float(np.abs(residuals[used]).max()), 1e-6)
    lower.set(xlabel=names[0], ylabel=names[2], ylim=(-limit, limit))
    return figure, upper, right
