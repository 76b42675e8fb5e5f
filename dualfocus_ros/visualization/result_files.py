# SPDX-License-Identifier: Apache-2.0
"""Output files of ``dualfocus estimate``, and the contact sheet of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
import math
import os
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.point_cloud import back_project
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.io.depth_files import to_millimetres
from dualfocus_ros.io.image_files import save_png
from dualfocus_ros.io.ply import write_ply
from dualfocus_ros.visualization.cloud_rendering import render_oblique_view
from dualfocus_ros.visualization.colour_scales import depth_scale, sigma_scale
from dualfocus_ros.visualization.panel import (
    Tile,
    compose_panel,
    draw_with_legend,
    format_focus_distance,
    plane_tiles,
)

MAX_COLUMNS = 6  # of a contact sheet


def write_result_files(
    folder: Path, planes: Sequence[Plane], result: DepthResult, camera: PinholeCamera
) -> int:
    """Write depth, sigma, images and cloud, each atomically; return the number of points.

    :param result: with sigma and all_in_focus.
    :raises CommandError: if the folder cannot be written.
    """
    assert result.sigma is not None and result.all_in_focus is not None
    points = back_project(torch.from_numpy(result.depth), camera)[..., :3].numpy()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.partial-', dir=folder) as temporary:
            partial = Path(temporary)
            np.save(partial / 'depth.npy', result.depth)
            np.save(partial / 'sigma.npy', result.sigma)
            save_png(partial / 'depth.png', to_millimetres(result.depth))
            scale = depth_scale(result.depth)
            save_png(partial / 'depth_color.png', draw_with_legend(result.depth, scale))
            save_png(partial / 'all_in_focus.png', result.all_in_focus)
            save_png(partial / 'panel.png', _panel(planes, result, points))
            count = write_ply(partial / 'cloud.ply', points, result.all_in_focus)
            for file in sorted(partial.iterdir()):
                os.replace(file, folder / file.name)
    except OSError as error:
        raise CommandError(f'{folder} cannot be written: {error}') from None
    return count


def contact_sheet(stack: FocalStack, estimator: Any, title: str) -> np.ndarray:
    """Estimate the depth of a stack and return its contact sheet.

    :returns: (H, W, 3) uint8 RGB.
    """
    result = estimator.estimate(stack, OutputRequest(sigma=True, all_in_focus=True))
    tiles = [
        Tile(f'{format_focus_distance(p.focus_dioptres)}, {p.focus_dioptres:.2f} dpt', p.image)
        for p in sorted(stack.planes, key=lambda p: -p.focus_dioptres)
    ]
    columns = math.ceil(len(tiles) / math.ceil(len(tiles) / MAX_COLUMNS))  # rows of equal length
    rows = [tiles[n : n + columns] for n in range(0, len(tiles), columns)]
    rows.append(_depth_tiles(result))
    subtitle = f'Sweep {stack.sweep_id}: {_describe(len(tiles), result)}'
    return compose_panel(rows, title=title, subtitle=subtitle)


def _panel(planes: Sequence[Plane], result: DepthResult, points: np.ndarray) -> np.ndarray:
    assert result.sigma is not None and result.all_in_focus is not None
    cloud = render_oblique_view(points, result.all_in_focus)
    sigma = Tile('Sigma: one standard deviation of depth', result.sigma, sigma_scale(result.sigma))
    rows = [
        plane_tiles([p.image for p in planes], [p.focus_dioptres for p in planes]),
        _depth_tiles(result),
        [Tile('Cloud, from the side', cloud), sigma],
    ]
    subtitle = _describe(len(planes), result)
    return compose_panel(rows, title='Depth from focus', subtitle=subtitle)


def _depth_tiles(result: DepthResult) -> list[Tile]:
    """Return the tiles of the all-in-focus image and the depth."""
    assert result.all_in_focus is not None
    return [
        Tile('All in focus', result.all_in_focus),
        Tile('Depth', result.depth, depth_scale(result.depth)),
    ]


def _describe(planes: int, result: DepthResult) -> str:
    """Return number of planes, size and valid share of a result as text."""
    height, width = result.depth.shape
    valid = 100.0 * float(np.isfinite(result.depth).mean())
    return f'{planes} planes of {width} x {height}, {valid:.1f} % of the pixels valid'
