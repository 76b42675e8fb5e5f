# SPDX-License-Identifier: Apache-2.0
"""Colour scales and their legends."""

import numpy as np
import pytest

from dualfocus_ros.visualization.colour_scales import (
    FARTHER_COLOUR,
    INVALID_COLOUR,
    NEARER_COLOUR,
    confidence_scale,
    depth_scale,
    error_scale,
    log_depth_scale,
    sigma_scale,
)


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours @ [0.2126, 0.7152, 0.0722]


def test_depth_scale_is_bright_near_and_grey_where_invalid():
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
    # The scale does not contain the colour of invalid pixels.
    assert np.abs(scale.colours.astype(int) - INVALID_COLOUR).sum(axis=1).min() > 40


@pytest.mark.parametrize('low, high', [(0.3, 0.6), (0.35, 2.2), (0.2, 20.0), (1.9, 2.1), (3, 80)])
def test_depth_legend_has_round_ticks_at_their_positions(low, high):
    scale = depth_scale(np.geomspace(low, high, 10_000))
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    for position, text in ticks:
        assert 0.0 <= position <= 1.0
        assert scale.position(np.array(float(text))) == pytest.approx(position)
    assert np.diff([position for position, _ in ticks]).min() >= 0.09


def test_sigma_scale_starts_at_0_and_error_scale_is_symmetric():
    sigma = sigma_scale(np.linspace(0.0, 0.1, 100))
    assert sigma.low == 0.0 and sigma.ticks()[0] == (0.0, '0')
    error = error_scale(np.array([-0.2, 0.1, np.nan]))
    assert error.low == -error.high
    assert (0.5, '0') in error.ticks()
    blue, white, red = error.colours[0], error.colours[128], error.colours[-1]
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240


@pytest.mark.parametrize('make', [depth_scale, sigma_scale, error_scale])
def test_scales_of_maps_without_values(make):
    empty = np.full((4, 5), np.nan)
    scale = make(empty)
    assert (scale.apply(empty) == INVALID_COLOUR).all()
    scale.ticks()


def test_special_colours_differ_from_the_depth_scale():
    scale = log_depth_scale(0.5, 2.0).colours.astype(int)
    special = np.array([INVALID_COLOUR, NEARER_COLOUR, FARTHER_COLOUR])
    for one in special:
        assert np.abs(scale - one).sum(axis=1).min() > 90
    # In brightness as well, for colour-blind users.
    brightness = sorted(special @ (0.299, 0.587, 0.114))
    assert min(np.diff(brightness)) > 25


def test_scales_are_perceptually_uniform():
    """Lightness is monotonic, in steps of similar size."""
    for scale in (
        log_depth_scale(0.5, 2.0),
        sigma_scale(np.ones((2, 2))),
        confidence_scale(),
    ):
        light = (scale.colours / 255.0) ** 2.2 @ (0.2126, 0.7152, 0.0722)
        lightness = 116.0 * np.cbrt(np.maximum(light, 0.008856)) - 16.0
        steps = np.diff(lightness[::16])
        assert (steps > 0).all() or (steps < 0).all()
        assert np.abs(steps).max() < 2.6 * np.abs(steps).min() + 2.0
