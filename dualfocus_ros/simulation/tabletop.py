# SPDX-License-Identifier: Apache-2.0
"""Scenes on a level surface: objects on a table, and boxes on a floor."""

from __future__ import annotations

import math

from dualfocus_ros.simulation.ray_casting import Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane


def table(builder: SceneBuilder) -> tuple[Scene, Pose]:
    """Build a table top with objects in front of a wall, 0.4 to 2.5 m."""
    near, edge = builder.uniform(0.40, 0.48), builder.uniform(1.1, 1.5)
    pose = builder.pose_over_floor(near, edge, far_row=-builder.uniform(0.45, 0.8))
    _, far_side = builder.floor_point(pose, 0.0, edge)
    wall = far_side + builder.uniform(0.5, 0.85)
    extent = 3.0 * builder.tangent_x * near
    top = builder.large_material(extent, 'wood', 'wood', 'terrazzo', 'fabric')
    builder.solids.append(Box((0.0, far_side - 1.5, -0.02), (6.0, 3.0, 0.04), top))
    _wall(builder, wall)
    builder.solids.append(
        InfinitePlane((0.0, 0.0, -0.75), (0.0, 0.0, 1.0), builder.large_material(0.8, 'carpet'))
    )
    builder.scatter(
        pose,
        (1.1 * near, 0.92 * edge),
        int(builder.rng.integers(6, 10)),
        ('parcel', 'books', 'can', 'bottle', 'mug', 'ball'),
        (0.03, 0.26),
    )
    lights = builder.lights((0.0, 0.8, 0.2), 1.3)
    return builder.build(lights, contact=0.02), pose


def floor(builder: SceneBuilder) -> tuple[Scene, Pose]:
    """Build a floor with boxes and a wall at its end, 0.5 to 6 m."""
    near, far = builder.uniform(0.5, 0.7), builder.uniform(3.5, 5.5)
    pose = builder.pose_over_floor(near, far, far_row=-builder.uniform(0.5, 0.95))
    extent = 4.0 * builder.tangent_x * near
    kinds = ('carpet', 'tiles', 'wood', 'concrete', 'terrazzo')
    ground = builder.large_material(max(extent, 0.5), *kinds)
    builder.solids.append(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), ground))
    _, end = builder.floor_point(pose, 0.0, far)
    _wall(builder, end)
    builder.scatter(
        pose,
        (1.25 * near, 0.85 * far),
        int(builder.rng.integers(5, 9)),
        ('parcel', 'parcel', 'parcel', 'bin', 'books', 'ball'),
        (0.08, 0.6),
    )
    lights = builder.lights((0.0, 2.0, 0.6), 2.2)
    return builder.build(lights, contact=0.05), pose


def _wall(builder: SceneBuilder, distance: float) -> None:
    """Add a back wall with pictures and possibly a pipe."""
    kinds = ('paint', 'brick', 'concrete', 'tiles')
    material = builder.large_material(1.2, *kinds, roughness=0.05)
    builder.solids.append(InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), material))
    width = 2.0 * builder.tangent_x * distance
    for _ in range(int(builder.rng.integers(1, 4))):
        across = width * builder.uniform(0.14, 0.32)
        tall = across * builder.uniform(0.6, 1.4)
        centre = (
            width * builder.uniform(-0.45, 0.45),
            distance - 0.012,
            0.1 * distance * builder.uniform(-0.2, 1.5) + tall / 2,
        )
        builder.solids.append(
            Box(centre, (across, 0.024, tall), builder.object_material('print', 'fabric'))
        )
    if builder.chance(0.5):
        height = builder.uniform(0.05, 0.3) * distance
        pipe = Cylinder(
            (0.0, distance - 0.06, height),
            0.02 * math.sqrt(distance),
            8.0 * distance,
            builder.object_material('concrete', 'speckle', extent=0.3),
            axis=0,
        )
        builder.solids.append(pipe)
    skirting = builder.plain_material(0.3, 0.8)
    builder.solids.append(Box((0.0, distance - 0.008, 0.045), (40.0, 0.016, 0.09), skirting))
