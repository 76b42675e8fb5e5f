# SPDX-License-Identifier: Apache-2.0
"""Colour scales, panels and rendered point clouds."""

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.inference.point_cloud import back_project
from dualfocus_ros.visualization.cloud_rendering import render_oblique_view
from dualfocus_ros.visualization.colour_scales import (
    INVALID_COLOUR,
    depth_scale,
    error_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.panel import Tile, compose_panel, draw_with_legend


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours @ [0.2126, 0.7152, 0.0722]


def test_depth_scale_is_monotonic_near_bright_and_marks_the_invalid():
    depth = np.linspace(0.4, 4.0, 400, dtype=np.float32).reshape(20, 20)
    scale = depth_scale(depth)
    assert 0.4 <= scale.low < 0.5 and 3.8 < scale.high <= 4.0
    brightness = luminance(scale.colours)
    assert np.all(np.diff(brightness) < 1.0)  # darker with distance, up to rounding
    image = scale.apply(np.array([[np.nan, np.inf, -np.inf, 0.01, 99.0]], np.float32))
    assert tuple(image[0, 0]) == INVALID_COLOUR
    assert np.array_equal(image[0, 1], scale.colours[-1])
    assert np.array_equal(image[0, 2], scale.colours[0])
    assert np.array_equal(image[0, 3], scale.colours[0])
    assert np.array_equal(image[0, 4], scale.colours[-1])
    # No colour of the scale can be taken for an invalid pixel.
    assert np.abs(scale.colours.astype(int) - INVALID_COLOUR).sum(axis=1).min() > 40


@pytest.mark.parametrize('low, high', [(0.3, 0.6), (0.35, 2.2), (0.2, 20.0), (1.9, 2.1), (3, 80)])
def test_depth_legend_has_several_round_ticks_at_their_place(low, high):
    scale = depth_scale(np.geomspace(low, high, 10_000))
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    for position, text in ticks:
        assert 0.0 <= position <= 1.0
        assert scale.position(np.array(float(text))) == pytest.approx(position)
    assert np.diff([position for position, _ in ticks]).min() >= 0.09


def test_sigma_and_error_scales():
    sigma = sigma_scale(np.linspace(0.0, 0.1, 100))
    assert sigma.low == 0.0 and sigma.ticks()[0] == (0.0, '0')
    error = error_scale(np.array([-0.2, 0.1, np.nan]))
    assert error.low == -error.high
    assert (0.5, '0') in error.ticks()
    blue, white, red = error.colours[0], error.colours[128], error.colours[-1]
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240


@pytest.mark.parametrize('make', [depth_scale, sigma_scale, error_scale])
def test_scales_of_maps_without_a_single_value(make):
    empty = np.full((4, 5), np.nan)
    scale = make(empty)
    assert (scale.apply(empty) == INVALID_COLOUR).all()
    scale.ticks()


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


def test_picture_with_legend_keeps_the_map_pixel_by_pixel():
    depth = np.linspace(0.5, 2.0, 150 * 200, dtype=np.float32).reshape(150, 200)
    depth[3, 4] = np.nan
    scale = depth_scale(depth)
    picture = draw_with_legend(depth, scale)
    assert picture.shape[0] >= 150 and picture.shape[1] > 200
    top = (picture.shape[0] - 150) // 2
    assert np.array_equal(picture[top : top + 150, :200], scale.apply(depth))


def test_oblique_view_shows_the_colours_on_white():
    camera = PinholeCamera(80, 60, 80.0, 80.0, 39.5, 29.5)
    points = back_project(torch.full((60, 80), 1.5), camera)[..., :3].numpy()
    view = render_oblique_view(points, np.full((60, 80), 40, np.uint8))
    assert view.shape == (60, 80, 3)
    painted = (view == 40).all(axis=-1)
    assert 0.1 < painted.mean() < 0.95
    assert (view[~painted] == 255).all()
    blank = render_oblique_view(np.full((60, 80, 3), np.nan), np.zeros((60, 80), np.uint8))
    assert (blank == 255).all()
