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


def set_log_scale(axes: Any, names: str = 'y') -> None:
    """Make the y axis, or each axis of ``xy``, logarithmic with plain numbers at 1, 2, 3 and 5."""
    for name in names:
        axes.set(**{f'{name}scale': 'log'})
        axis = getattr(axes, f'{name}axis')
        axis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axis.set_major_formatter('{x:g}')
        axis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
