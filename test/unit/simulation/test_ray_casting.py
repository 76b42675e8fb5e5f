# SPDX-License-Identifier: Apache-2.0
"""Ray casting: exact depth of solids, poses and shadows."""

import math

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene, cast_rays
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane, Material, Sphere
from dualfocus_ros.simulation.textures import Texture

WHITE = Material(Texture(np.full((16, 16, 3), 0.8, np.float32), 1.0))
CAMERA = PinholeCamera(120, 90, 150.0, 150.0, 59.5, 44.5)


def scene_of(*solids):
    return Scene(tuple(solids), (Light((1.0, -1.0, 3.0), (3.0, 3.0, 3.0)),))


def wall(distance):
    return InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), WHITE)


def test_depth_is_along_the_optical_axis():
    depth = cast_rays(scene_of(wall(2.0)), CAMERA, Pose((0.0, 0.0, 0.0))).depth
    assert np.allclose(depth, 2.0, atol=1e-5)


def test_floor_depth_follows_from_pitch_and_height():
    pitch, height = 0.4, 1.2
    floor = InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), WHITE)
    depth = cast_rays(scene_of(floor), CAMERA, Pose((0.0, 0.0, height), pitch=pitch)).depth
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
def test_solids_have_exact_depth_distance_and_normals(solid, front):
    camera = PinholeCamera(121, 91, 150.0, 150.0, 60.0, 45.0)
    scene = cast_rays(scene_of(solid, wall(4.0)), camera, Pose((0.0, 0.0, 0.0)))
    assert scene.depth[45, 60] == pytest.approx(front, abs=1e-4)
    assert scene.depth[0, 0] == pytest.approx(4.0, abs=1e-4)
    points = np.array([[0.0, 1.0, 0.0], [0.0, 1.7, 0.0]], np.float32)
    assert solid.distance(points) == pytest.approx([0.7, 0.0], abs=1e-4)
    normal, _, _ = solid.normals_and_uv(np.array([[0.01, front, 0.01]], np.float32))
    assert normal[0] == pytest.approx([0.0, -1.0, 0.0], abs=0.06)


def test_pose_angles_have_the_documented_directions():
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


def test_open_scene_raises():
    with pytest.raises(ValueError, match='open'):
        cast_rays(scene_of(Sphere((0.0, 2.0, 0.0), 0.3, WHITE)), CAMERA, Pose((0.0, 0.0, 0.0)))
