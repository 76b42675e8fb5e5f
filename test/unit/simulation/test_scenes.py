# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes: exact geometry, determinism, and images that are not featureless."""

import math

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene, cast_rays
from dualfocus_ros.simulation.scenes import SCENES, make_scene, make_target
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane, Material, Sphere
from dualfocus_ros.simulation.textures import Texture, TextureGenerator

RANGES = {'table': (0.3, 2.6), 'floor': (0.4, 6.0), 'corridor': (0.4, 8.0)}
WHITE = Material(Texture(np.full((16, 16, 3), 0.8, np.float32), 1.0))
CAMERA = PinholeCamera(120, 90, 150.0, 150.0, 59.5, 44.5)


def room(*solids):
    return Scene(tuple(solids), (Light((1.0, -1.0, 3.0), (3.0, 3.0, 3.0)),))


def wall(distance):
    return InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), WHITE)


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
def test_seed_decides_everything(name):
    first, again, other = (make_scene(name, seed, CAMERA) for seed in (5, 5, 6))
    assert np.array_equal(first.colour, again.colour)
    assert np.array_equal(first.depth, again.depth)
    assert np.abs(first.depth - other.depth).mean() > 0.01


def test_unknown_scene_is_refused_with_the_choices():
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


def test_depth_is_along_z_not_along_the_ray():
    depth = cast_rays(room(wall(2.0)), CAMERA, Pose((0.0, 0.0, 0.0))).depth
    assert np.allclose(depth, 2.0, atol=1e-5)


def test_floor_depth_follows_from_pitch_and_height():
    pitch, height = 0.4, 1.2
    floor = InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), WHITE)
    depth = cast_rays(room(floor), CAMERA, Pose((0.0, 0.0, height), pitch=pitch)).depth
    row = (np.arange(90) - 44.5) / 150.0
    expected = height / (math.sin(pitch) + row * math.cos(pitch))
    assert np.allclose(depth, expected[:, None], rtol=1e-4)


@pytest.mark.parametrize(
    ('solid', 'front'),
    [
        (Sphere((0.0, 2.0, 0.0), 0.3, WHITE), 1.7),
        (Box((0.0, 2.0, 0.0), (0.4, 0.6, 0.4), WHITE), 1.7),
        (Box((0.0, 2.0, 0.0), (0.6, 0.4, 0.4), WHITE, yaw=math.pi / 2), 1.7),
        (Cylinder((0.0, 2.0, 0.0), 0.3, 0.5, WHITE), 1.7),
        (Cylinder((0.0, 2.0, 0.0), 0.3, 0.6, WHITE, axis=1), 1.7),
    ],
)
def test_solids_are_met_where_they_stand(solid, front):
    camera = PinholeCamera(121, 91, 150.0, 150.0, 60.0, 45.0)
    scene = cast_rays(room(solid, wall(4.0)), camera, Pose((0.0, 0.0, 0.0)))
    assert scene.depth[45, 60] == pytest.approx(front, abs=1e-4)
    assert scene.depth[0, 0] == pytest.approx(4.0, abs=1e-4)
    points = np.array([[0.0, 1.0, 0.0], [0.0, 1.7, 0.0]], np.float32)
    assert solid.distance(points) == pytest.approx([0.7, 0.0], abs=1e-4)
    normal, _, _ = solid.normals_and_uv(np.array([[0.01, front, 0.01]], np.float32))
    assert normal[0] == pytest.approx([0.0, -1.0, 0.0], abs=0.06)


def test_pose_turns_as_documented():
    """Pitch looks down, yaw to the left; the optical frame has x right and y down."""
    forward = np.array([0.0, 0.0, 1.0])
    assert Pose((0, 0, 0), pitch=0.3).rotation() @ forward == pytest.approx(
        [0.0, math.cos(0.3), -math.sin(0.3)]
    )
    assert (Pose((0, 0, 0), yaw=0.3).rotation() @ forward)[0] < 0.0
    assert Pose((0, 0, 0)).rotation() @ [0.0, 1.0, 0.0] == pytest.approx([0.0, 0.0, -1.0])
    turned = Pose((0, 0, 0), 0.2, 0.4, 0.1).rotation()
    assert turned @ turned.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1.0)


def test_shadow_falls_behind_a_box():
    floor = InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), WHITE)
    box = Box((0.0, 2.0, 0.15), (0.3, 0.3, 0.3), WHITE)
    lamp = Light((-2.0, 2.0, 1.5), (4.0, 4.0, 4.0), 0.05)
    pose = Pose((0.0, 0.0, 1.2), pitch=0.6)
    empty = cast_rays(Scene((floor,), (lamp,)), CAMERA, pose).colour[0]
    shaded = cast_rays(Scene((floor, box), (lamp,)), CAMERA, pose)
    on_floor = np.isclose(
        shaded.depth, cast_rays(Scene((floor,), ()), CAMERA, pose).depth, rtol=1e-4
    )
    ratio = np.where(on_floor, shaded.colour[0] / empty, 1.0)
    dark = np.argwhere(ratio < 0.6)
    assert len(dark) > 20
    assert dark[:, 1].mean() > 59.5, 'the lamp is on the left, so the shadow is on the right'


def test_far_texture_is_averaged_not_aliased():
    checker = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    texture = Texture(np.repeat(checker[..., None], 3, axis=2))
    u = np.random.default_rng(0).random(500).astype(np.float32)
    near = texture.sample(u, u, np.full(500, 1e-3, np.float32))
    far = texture.sample(u, u, np.full(500, 0.2, np.float32))
    assert near.std() > 0.1
    assert np.allclose(far, 0.5, atol=1e-3)


def test_every_texture_is_a_reflectance():
    maker = TextureGenerator(np.random.default_rng(1), 64)
    names = (
        'paint',
        'concrete',
        'terrazzo',
        'wood',
        'carpet',
        'tiles',
        'brick',
        'fabric',
        'cardboard',
        'print',
        'speckle',
        'panel',
    )
    for name in names:
        albedo = getattr(maker, name)()
        assert albedo.shape == (64, 64, 3) and albedo.dtype == np.float32
        assert albedo.min() >= 0.0 and albedo.max() <= 1.0
        assert albedo.std() > 0.004
    with pytest.raises(ValueError, match='power of two'):
        TextureGenerator(np.random.default_rng(1), 100)


def test_open_room_is_refused():
    with pytest.raises(ValueError, match='open'):
        cast_rays(room(Sphere((0.0, 2.0, 0.0), 0.3, WHITE)), CAMERA, Pose((0.0, 0.0, 0.0)))
