# SPDX-License-Identifier: Apache-2.0
"""Two scenes on a level surface: objects on a table, boxes on a floor."""

from __future__ import annotations

import math

from dualfocus_ros.simulation.ray_casting import Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane


def table(stage: SceneBuilder) -> tuple[Scene, Pose]:
    """A table top with objects in front of a wall: 0.4 to 2.5 m."""
    near, edge = stage.uniform(0.40, 0.48), stage.uniform(1.1, 1.5)
    pose = stage.pose_over_floor(near, edge, far_row=-stage.uniform(0.45, 0.8))
    _, far_side = stage.floor_point(pose, 0.0, edge)
    wall = far_side + stage.uniform(0.5, 0.85)
    extent = 3.0 * stage.tangent_x * near
    top = stage.ground(extent, 'wood', 'wood', 'terrazzo', 'fabric')
    stage.solids.append(Box((0.0, far_side - 1.5, -0.02), (6.0, 3.0, 0.04), top))
    _wall(stage, wall)
    stage.solids.append(
        InfinitePlane((0.0, 0.0, -0.75), (0.0, 0.0, 1.0), stage.ground(0.8, 'carpet'))
    )
    stage.scatter(
        pose,
        (1.1 * near, 0.92 * edge),
        int(stage.rng.integers(6, 10)),
        ('parcel', 'books', 'can', 'bottle', 'mug', 'ball'),
        (0.03, 0.26),
    )
    lights = stage.lights((0.0, 0.8, 0.2), 1.3)
    return stage.room(lights, contact=0.02), pose


def floor(stage: SceneBuilder) -> tuple[Scene, Pose]:
    """A floor that recedes, with boxes on it and a wall at its end: 0.5 to 6 m."""
    near, far = stage.uniform(0.5, 0.7), stage.uniform(3.5, 5.5)
    pose = stage.pose_over_floor(near, far, far_row=-stage.uniform(0.5, 0.95))
    extent = 4.0 * stage.tangent_x * near
    kinds = ('carpet', 'tiles', 'wood', 'concrete', 'terrazzo')
    ground = stage.ground(max(extent, 0.5), *kinds)
    stage.solids.append(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), ground))
    _, end = stage.floor_point(pose, 0.0, far)
    _wall(stage, end)
    stage.scatter(
        pose,
        (1.25 * near, 0.85 * far),
        int(stage.rng.integers(5, 9)),
        ('parcel', 'parcel', 'parcel', 'bin', 'books', 'ball'),
        (0.08, 0.6),
    )
    lights = stage.lights((0.0, 2.0, 0.6), 2.2)
    return stage.room(lights, contact=0.05), pose


def _wall(stage: SceneBuilder, distance: float) -> None:
    """Close the view with a wall that has a picture, a shelf board or a pipe on it."""
    kinds = ('paint', 'brick', 'concrete', 'tiles')
    surface = stage.ground(1.2, *kinds, roughness=0.05)
    stage.solids.append(InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), surface))
    width = 2.0 * stage.tangent_x * distance
    for _ in range(int(stage.rng.integers(1, 4))):
        across = width * stage.uniform(0.14, 0.32)
        tall = across * stage.uniform(0.6, 1.4)
        centre = (
            width * stage.uniform(-0.45, 0.45),
            distance - 0.012,
            0.1 * distance * stage.uniform(-0.2, 1.5) + tall / 2,
        )
        stage.solids.append(
            Box(centre, (across, 0.024, tall), stage.object_material('print', 'fabric'))
        )
    if stage.chance(0.5):
        height = stage.uniform(0.05, 0.3) * distance
        pipe = Cylinder(
            (0.0, distance - 0.06, height),
            0.02 * math.sqrt(distance),
            8.0 * distance,
            stage.object_material('concrete', 'speckle', extent=0.3),
            axis=0,
        )
        stage.solids.append(pipe)
    skirting = stage.plain(0.3, 0.8)
    stage.solids.append(Box((0.0, distance - 0.008, 0.045), (40.0, 0.016, 0.09), skirting))
