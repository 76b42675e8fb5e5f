# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures as images, drawn without a display."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
import numpy as np


def figure_to_array(figure: Figure) -> np.ndarray:
    """Return a figure as (H, W, 3) uint8 RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def set_log_scale(axes: Any) -> None:
    """Make the y axis logarithmic, with plain numbers at 1, 2, 3 and 5."""
    axes.set_yscale('log')
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
