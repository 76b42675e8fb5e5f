# SPDX-License-Identifier: Apache-2.0
"""Layout and colours of the figures of fits."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
import numpy as np

MEASURED, MODEL, OTHER, OUT = '#1f5fa8', '#c8452d', '#4f8f4a', '#9aa0a8'
DPI = 110


def fit_figure(title: str, *, three: bool) -> tuple[Figure, Any, Any, Any]:
    """Return a figure with axes for the fit, its residuals below, and a third plot or None."""
    figure = Figure(figsize=(10 if three else 6, 4.5), dpi=DPI, layout='constrained')
    grid = figure.add_gridspec(2, 2 if three else 1, height_ratios=(3, 1))
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    right = figure.add_subplot(grid[:, 1]) if three else None
    upper.tick_params(labelbottom=False)
    for axes in (upper, lower, right):
        if axes is not None:
            axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure, upper, lower, right


def plot_measured(
    axes: Any, x: np.ndarray, values: np.ndarray, used: np.ndarray, labels: tuple[str, str]
) -> None:
    """Plot measured points, unused ones as crosses."""
    axes.plot(x[used], values[used], 'o', color=MEASURED, label=labels[0])
    if not used.all():
        axes.plot(x[~used], values[~used], 'x', color=OUT, label=labels[1])


def plot_residuals(axes: Any, x: np.ndarray, values: np.ndarray, used: np.ndarray) -> None:
    """Plot residuals, unused points as crosses, symmetrically about 0."""
    axes.axhline(0.0, color=MODEL, linewidth=1.0)
    axes.plot(x[used], values[used], 'o', color=MEASURED, markersize=4)
    axes.plot(x[~used], values[~used], 'x', color=OUT, markersize=4)
    largest = 1.25 * float(np.abs(values[used]).max())
    axes.set_ylim(-max(largest, 1e-6), max(largest, 1e-6))
