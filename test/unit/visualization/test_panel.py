# SPDX-License-Identifier: Apache-2.0
"""Panels and legends."""

import numpy as np

from dualfocus_ros.visualization.colour_scales import depth_scale
from dualfocus_ros.visualization.panel import Tile, compose_panel, draw_with_legend


def test_panel_shows_each_tile_at_one_height_per_row():
    depth = np.full((48, 64), 1.0, np.float32)
    depth[:, 32:] = 2.0
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    tiles = [
        Tile('colour', red),
        Tile('grey', red[..., 1]),
        Tile('map', depth, depth_scale(depth)),
    ]
    panel = compose_panel([tiles[:2], tiles], title='Title', subtitle='below', width=800)
    assert panel.shape[1] == 800 and panel.dtype == np.uint8
    reds = (panel == (255, 0, 0)).all(axis=-1)
    assert reds.sum() > 0.15 * panel.shape[0] * 800
    assert (panel == depth_scale(depth).colours[-1]).all(axis=-1).any()


def test_legend_leaves_the_map_unchanged():
    depth = np.linspace(0.5, 2.0, 150 * 200, dtype=np.float32).reshape(150, 200)
    depth[3, 4] = np.nan
    scale = depth_scale(depth)
    picture = draw_with_legend(depth, scale)
    assert picture.shape[0] >= 150 and picture.shape[1] > 200
    top = (picture.shape[0] - 150) // 2
    assert np.array_equal(picture[top : top + 150, :200], scale.apply(depth))
