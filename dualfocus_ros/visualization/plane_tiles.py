# SPDX-License-Identifier: Apache-2.0
"""Panel tiles of the planes of a focal stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualfocus_ros.visualization.panel import Tile

MAX_TILES = 5


def plane_tiles(images: Sequence[np.ndarray], focus_dioptres: Sequence[float]) -> list[Tile]:
    """Return up to MAX_TILES planes from near to far, titled with their focus distance."""
    order = np.argsort(focus_dioptres, kind='stable')[::-1]
    picks = np.linspace(0, len(order) - 1, min(MAX_TILES, len(order))).round().astype(int)
    return [
        Tile(f'Focused at {format_focus_distance(focus_dioptres[n])}', images[n])
        for n in order[picks]
    ]


def format_focus_distance(dioptres: float) -> str:
    """Return the focus distance as text, ``infinity`` for 0 dioptres."""
    return f'{1.0 / dioptres:.2f} m' if dioptres > 1e-3 else 'infinity'
