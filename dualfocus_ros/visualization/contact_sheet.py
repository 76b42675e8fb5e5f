# SPDX-License-Identifier: Apache-2.0
"""Contact sheet of one sweep: all planes and their depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.visualization.colour_scales import depth_scale
from dualfocus_ros.visualization.panel import Tile, compose_panel
from dualfocus_ros.visualization.plane_tiles import format_focus_distance

_COLUMNS = 6


def contact_sheet(stack: FocalStack, estimator: Any, title: str) -> np.ndarray:
    """Estimate the depth of a stack and return its contact sheet.

    :returns: (H, W, 3) uint8 RGB.
    """
    result = estimator.estimate(stack, OutputRequest(sigma=True, all_in_focus=True))
    planes = sorted(stack.planes, key=lambda plane: -plane.focus_dioptres)
    tiles = [
        Tile(
            f'{format_focus_distance(plane.focus_dioptres)}, {plane.focus_dioptres:.2f} dpt',
            plane.image,
        )
        for plane in planes
    ]
    rows = [tiles[n : n + _COLUMNS] for n in range(0, len(tiles), _COLUMNS)]
    rows.append(
        [
            Tile('All in focus', result.all_in_focus),
            Tile('Depth', result.depth, depth_scale(result.depth)),
        ]
    )
    height, width = result.depth.shape
    valid = 100.0 * float(np.isfinite(result.depth).mean())
    return compose_panel(
        rows,
        title=title,
        subtitle=f'Sweep {stack.sweep_id}: {len(planes)} planes of {width} x {height}, '
        f'{valid:.1f} % of the pixels valid',
    )
