# SPDX-License-Identifier: Apache-2.0
"""A corridor with doors, posters, pipes, lamps and things left standing: 0.8 to 8 m."""

from __future__ import annotations

import math

from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane

_CEILING = 2.4


def corridor(stage: SceneBuilder) -> tuple[Scene, Pose]:
    """Build the corridor; the camera stands close to a wall, so that its near end is in view."""
    length = stage.uniform(5.0, 7.5)
    side = -1.0 if stage.chance(0.5) else 1.0
    width = stage.uniform(1.3, 2.0)
    near_wall = max(min(stage.uniform(0.75, 1.05) * stage.tangent_x * 1.1, 0.5 * width), 0.12)
    height = min(max(stage.uniform(1.0, 1.6) * stage.tangent_y, 0.18), 1.3)
    yaw = -side * stage.uniform(0.0, 0.25) * stage.tangent_x
    pitch = stage.uniform(-0.1, 0.25) * stage.tangent_y
    pose = Pose((0.0, 0.0, height), pitch, yaw, stage.uniform(-0.02, 0.02))
    # Distances of the walls to the left (negative x) and right of the camera.
    walls = {side: near_wall, -side: width - near_wall}

    floor = stage.ground(0.8, 'tiles', 'carpet', 'terrazzo', 'concrete', 'wood')
    stage.solids.append(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), floor))
    ceiling = stage.ground(1.2, 'paint', 'concrete', 'tiles', roughness=0.06)
    stage.solids.append(InfinitePlane((0.0, 0.0, _CEILING), (0.0, 0.0, -1.0), ceiling))
    end = stage.ground(1.0, 'paint', 'brick', 'concrete', roughness=0.08)
    stage.solids.append(InfinitePlane((0.0, length, 0.0), (0.0, -1.0, 0.0), end))
    plaster = stage.ground(1.0, 'paint', 'brick', 'concrete', 'tiles', roughness=0.12)
    for sign, distance in walls.items():
        x = sign * distance
        stage.solids.append(InfinitePlane((x, 0.0, 0.0), (-sign, 0.0, 0.0), plaster))
        skirting = stage.plain(0.15, 0.7)
        stage.solids.append(
            Box((x - sign * 0.008, length / 2, 0.05), (0.016, length, 0.1), skirting)
        )
        _furnish_wall(stage, sign, x, length, height, pipe=sign != side)
    _end_wall(stage, walls, length, height)
    _left_standing(stage, walls, side, length)
    lights = []
    for step in range(2):
        y = length * (0.25 + 0.5 * step)
        panel = Box((0.0, y, _CEILING - 0.02), (0.3, 1.1, 0.04), stage.lamp_panel())
        stage.solids.append(panel)
        power = stage.uniform(1.6, 2.6)
        lights.append(Light((0.0, y, _CEILING - 0.15), (power, power, 0.92 * power), 0.2))
    return stage.room(tuple(lights), contact=0.07), pose


def _furnish_wall(
    stage: SceneBuilder, sign: float, x: float, length: float, height: float, *, pipe: bool
) -> None:
    """Put doors, posters, boxes and a pipe along one side wall."""
    y = stage.uniform(0.9, 1.4)
    while y < length - 0.5:
        if stage.chance(0.35):
            wide = stage.uniform(0.75, 0.95)
            door = stage.object_material('panel')
            stage.solids.append(Box((x, y + wide / 2, 1.0), (0.05, wide, 2.0), door))
            frame = stage.plain(0.2, 0.7)
            for post in (y - 0.04, y + wide + 0.04):
                stage.solids.append(Box((x, post, 1.02), (0.09, 0.08, 2.04), frame))
        else:
            wide = stage.uniform(0.3, 0.7)
            tall = wide * stage.uniform(0.7, 1.4)
            centre = (x, y + wide / 2, max(height + stage.uniform(-0.25, 0.45), tall / 2 + 0.12))
            thick = 0.02 if stage.chance(0.7) else 0.2
            surface = stage.object_material('print', 'print', 'panel', 'fabric')
            stage.solids.append(Box(centre, (thick, wide, tall), surface))
        y += wide + stage.uniform(0.15, 0.6)
    if pipe and stage.chance(0.7):
        level = max(height + stage.uniform(-0.5, 0.8), 0.15)
        stage.solids.append(
            Cylinder(
                (x - sign * 0.06, length / 2, level),
                stage.uniform(0.015, 0.04),
                length,
                stage.object_material('speckle', 'concrete', gloss=0.2, extent=0.4),
                axis=1,
            )
        )


def _end_wall(
    stage: SceneBuilder, walls: dict[float, float], length: float, height: float
) -> None:
    """Put a door or a notice board on the end wall."""
    middle = 0.5 * (walls[1.0] - walls[-1.0])
    if stage.chance(0.5):
        size = (0.85, 0.05, 2.0)
        stage.solids.append(Box((middle, length, 1.0), size, stage.object_material('panel')))
        sign = Box(
            (middle, length - 0.03, 1.5), (0.35, 0.02, 0.25), stage.object_material('print')
        )
        stage.solids.append(sign)
    else:
        size = (0.9, 0.03, 0.7)
        centre = (middle, length, max(height + 0.2, 0.5))
        stage.solids.append(Box(centre, size, stage.object_material('print')))


def _left_standing(
    stage: SceneBuilder, walls: dict[float, float], side: float, length: float
) -> None:
    """Stand bins, parcels and cylinders along the walls, the first one close by."""
    depth = stage.uniform(0.95, 1.3)
    for number in range(int(stage.rng.integers(3, 6))):
        # From one side of the view to the other, where the walls leave room.
        sign = side if number % 2 == 0 else -side
        width = min(stage.uniform(0.22, 0.45), 0.6 * stage.tangent_x * depth + 0.04)
        reach = min(walls[sign] - 0.6 * width, 0.85 * stage.tangent_x * depth)
        x = sign * reach if reach > 0.0 else 0.0
        kind = stage.rng.choice(('parcel', 'bin', 'parcel', 'books', 'can'))
        if kind == 'parcel':
            stage.parcel(x, depth + width / 2, 0.0, width, width * stage.uniform(0.6, 1.6))
        else:
            getattr(stage, str(kind))(x, depth + width / 2, 0.0, width)
        depth = depth * stage.uniform(1.3, 1.7) + 0.15
        if depth > length - math.hypot(width, 0.3):
            break
