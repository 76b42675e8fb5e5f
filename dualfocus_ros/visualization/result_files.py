# SPDX-License-Identifier: Apache-2.0
"""Output files of ``dualfocus estimate``."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import tempfile

import numpy as np
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.focal_stack import Plane
from dualfocus_ros.inference.point_cloud import back_project
from dualfocus_ros.inference.result import DepthResult
from dualfocus_ros.io.depth_files import to_millimetres
from dualfocus_ros.io.image_files import save_png
from dualfocus_ros.io.ply import write_ply
from dualfocus_ros.visualization.cloud_rendering import render_oblique_view
from dualfocus_ros.visualization.colour_scales import depth_scale, sigma_scale
from dualfocus_ros.visualization.panel import (
    Tile,
    compose_panel,
    depth_tiles,
    describe_result,
    draw_with_legend,
    plane_tiles,
)


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


def _panel(planes: Sequence[Plane], result: DepthResult, points: np.ndarray) -> np.ndarray:
    assert result.sigma is not None and result.all_in_focus is not None
    cloud = render_oblique_view(points, result.all_in_focus)
    sigma = Tile('Sigma: one standard deviation of depth', result.sigma, sigma_scale(result.sigma))
    rows = [
        plane_tiles([p.image for p in planes], [p.focus_dioptres for p in planes]),
        depth_tiles(result),
        [Tile('Cloud, from the side', cloud), sigma],
    ]
    subtitle = describe_result(len(planes), result)
    return compose_panel(rows, title='Depth from focus', subtitle=subtitle)
