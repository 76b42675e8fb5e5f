# SPDX-License-Identifier: Apache-2.0
"""Corridor scene: doors, posters, pipes, lamps and objects on the floor, 0.8 to 8 m."""

from __future__ import annotations

import math

from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane

_CEILING = 2.4  # m


def corridor(builder: SceneBuilder) -> tuple[Scene, Pose]:
    """Build the corridor; the camera is close to a wall, so that its near end is in view."""
    length = builder.uniform(5.0, 7.5)
    side = -1.0 if builder.chance(0.5) else 1.0
    width = builder.uniform(1.3, 2.0)
    near_wall = max(min(builder.uniform(0.75, 1.05) * builder.tangent_x * 1.1, 0.5 * width), 0.12)
    height = min(max(builder.uniform(1.0, 1.6) * builder.tangent_y, 0.18), 1.3)
    yaw = -side * builder.uniform(0.0, 0.25) * builder.tangent_x
    pitch = builder.uniform(-0.1, 0.25) * builder.tangent_y
    pose = Pose((0.0, 0.0, height), pitch, yaw, builder.uniform(-0.02, 0.02))
    # Distances of the walls to the left (negative x) and right of the camera.
    walls = {side: near_wall, -side: width - near_wall}

    floor = builder.large_material(0.8, 'tiles', 'carpet', 'terrazzo', 'concrete', 'wood')
    builder.solids.append(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), floor))
    ceiling = builder.large_material(1.2, 'paint', 'concrete', 'tiles', roughness=0.06)
    builder.solids.append(InfinitePlane((0.0, 0.0, _CEILING), (0.0, 0.0, -1.0), ceiling))
    end = builder.large_material(1.0, 'paint', 'brick', 'concrete', roughness=0.08)
    builder.solids.append(InfinitePlane((0.0, length, 0.0), (0.0, -1.0, 0.0), end))
    plaster = builder.large_material(1.0, 'paint', 'brick', 'concrete', 'tiles', roughness=0.12)
    for sign, distance in walls.items():
        x = sign * distance
        builder.solids.append(InfinitePlane((x, 0.0, 0.0), (-sign, 0.0, 0.0), plaster))
        skirting = builder.plain_material(0.15, 0.7)
        builder.solids.append(
            Box((x - sign * 0.008, length / 2, 0.05), (0.016, length, 0.1), skirting)
        )
        _furnish_wall(builder, sign, x, length, height, pipe=sign != side)
    _end_wall(builder, walls, length, height)
    _add_objects(builder, walls, side, length)
    lights = []
    for step in range(2):
        y = length * (0.25 + 0.5 * step)
        panel = Box((0.0, y, _CEILING - 0.02), (0.3, 1.1, 0.04), builder.lamp_material())
        builder.solids.append(panel)
        power = builder.uniform(1.6, 2.6)
        lights.append(Light((0.0, y, _CEILING - 0.15), (power, power, 0.92 * power), 0.2))
    return builder.build(tuple(lights), contact=0.07), pose


def _furnish_wall(
    builder: SceneBuilder, sign: float, x: float, length: float, height: float, *, pipe: bool
) -> None:
    """Add doors, posters, boxes and a pipe along a side wall."""
    y = builder.uniform(0.9, 1.4)
    while y < length - 0.5:
        if builder.chance(0.35):
            wide = builder.uniform(0.75, 0.95)
            door = builder.object_material('panel')
            builder.solids.append(Box((x, y + wide / 2, 1.0), (0.05, wide, 2.0), door))
            frame = builder.plain_material(0.2, 0.7)
            for post in (y - 0.04, y + wide + 0.04):
                builder.solids.append(Box((x, post, 1.02), (0.09, 0.08, 2.04), frame))
        else:
            wide = builder.uniform(0.3, 0.7)
            tall = wide * builder.uniform(0.7, 1.4)
            centre = (x, y + wide / 2, max(height + builder.uniform(-0.25, 0.45), tall / 2 + 0.12))
            thick = 0.02 if builder.chance(0.7) else 0.2
            material = builder.object_material('print', 'print', 'panel', 'fabric')
            builder.solids.append(Box(centre, (thick, wide, tall), material))
        y += wide + builder.uniform(0.15, 0.6)
    if pipe and builder.chance(0.7):
        level = max(height + builder.uniform(-0.5, 0.8), 0.15)
        builder.solids.append(
            Cylinder(
                (x - sign * 0.06, length / 2, level),
                builder.uniform(0.015, 0.04),
                length,
                builder.object_material('speckle', 'concrete', gloss=0.2, extent=0.4),
                axis=1,
            )
        )


def _end_wall(
    builder: SceneBuilder, walls: dict[float, float], length: float, height: float
) -> None:
    """Add a door or a notice board to the end wall."""
    middle = 0.5 * (walls[1.0] - walls[-1.0])
    if builder.chance(0.5):
        size = (0.85, 0.05, 2.0)
        builder.solids.append(Box((middle, length, 1.0), size, builder.object_material('panel')))
        sign = Box(
            (middle, length - 0.03, 1.5), (0.35, 0.02, 0.25), builder.object_material('print')
        )
        builder.solids.append(sign)
    else:
        size = (0.9, 0.03, 0.7)
        centre = (middle, length, max(height + 0.2, 0.5))
        builder.solids.append(Box(centre, size, builder.object_material('print')))


def _add_objects(
    builder: SceneBuilder, walls: dict[float, float], side: float, length: float
) -> None:
    """Add bins, parcels and cylinders along the walls, the first one close to the camera."""
    depth = builder.uniform(0.95, 1.3)
    for number in range(int(builder.rng.integers(3, 6))):
        # Alternate between the sides of the view, within the walls.
        sign = side if number % 2 == 0 else -side
        width = min(builder.uniform(0.22, 0.45), 0.6 * builder.tangent_x * depth + 0.04)
        reach = min(walls[sign] - 0.6 * width, 0.85 * builder.tangent_x * depth)
        x = sign * reach if reach > 0.0 else 0.0
        kind = builder.rng.choice(('parcel', 'bin', 'parcel', 'books', 'can'))
        if kind == 'parcel':
            builder.parcel(x, depth + width / 2, 0.0, width, width * builder.uniform(0.6, 1.6))
        else:
            getattr(builder, str(kind))(x, depth + width / 2, 0.0, width)
        depth = depth * builder.uniform(1.3, 1.7) + 0.15
        if depth > length - math.hypot(width, 0.3):
            break
