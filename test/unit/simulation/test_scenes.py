# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes: depth range, texture and determinism."""

import math

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.scenes import SCENES, make_scene, make_target

RANGES = {'table': (0.3, 2.6), 'floor': (0.4, 6.0), 'corridor': (0.4, 8.0)}
CAMERA = PinholeCamera(120, 90, 150.0, 150.0, 59.5, 44.5)


@pytest.mark.parametrize('name', SCENES)
@pytest.mark.parametrize('focal', [100.0, 700.0])
def test_scene_has_its_depth_range_and_texture(name, focal):
    camera = PinholeCamera(160, 120, focal, focal, 79.5, 59.5)
    for seed in range(3):
        scene = make_scene(name, seed, camera)
        assert scene.colour.shape == (3, 120, 160) and scene.colour.dtype == np.float32
        assert scene.depth.shape == (120, 160) and np.isfinite(scene.depth).all()
        low, high = RANGES[name]
        assert low < scene.depth.min() and scene.depth.max() < high
        assert scene.depth.max() > 2.0 * scene.depth.min()
        assert scene.colour.min() >= 0.0 and scene.colour.max() <= 1.0
        assert 0.08 < scene.colour.mean() < 0.6
        luminance = scene.colour.mean(axis=0)
        steps = np.abs(np.diff(luminance, axis=1))
        assert np.mean(steps > 0.01) > 0.12


@pytest.mark.parametrize('name', SCENES)
def test_scene_follows_from_its_seed(name):
    first, again, other = (make_scene(name, seed, CAMERA) for seed in (5, 5, 6))
    assert np.array_equal(first.colour, again.colour)
    assert np.array_equal(first.depth, again.depth)
    assert np.abs(first.depth - other.depth).mean() > 0.01


def test_unknown_scene_raises_with_the_choices():
    with pytest.raises(ValueError, match='table, floor, corridor'):
        make_scene('moon', 0, CAMERA)


def test_target_is_a_textured_plane_with_a_slanted_edge():
    camera = PinholeCamera(160, 120, 200.0, 200.0, 79.5, 59.5)
    scene = make_target(0.8, 3, camera)
    assert np.abs(scene.depth - 0.8).max() < 1e-3
    light = scene.colour.mean(axis=0)
    # The edge passes the centre, dark at its left, and is the farther left the higher it is.
    edges = [int(np.argmax(np.diff(light[row]))) for row in (40, 60, 80)]
    assert edges[0] < edges[1] < edges[2] and abs(edges[1] - 79) <= 2
    assert (edges[2] - edges[0]) / 40 == pytest.approx(math.tan(math.radians(5)), abs=0.03)
    assert light[:20].std() > 0.1 * light[:20].mean()
    # However far away it is, it fills the view.
    assert np.abs(make_target(3.0, 3, camera).colour - scene.colour).mean() < 0.02
    with pytest.raises(ValueError, match='distance must be positive'):
        make_target(0.0, 0, camera)
