# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes: table, floor, corridor and calibration target, and their images.

The layout of a scene follows the field of view of its camera: a tele lens and a wide-angle lens
both see the whole depth range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene, SceneImage, cast_rays
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, Cylinder, InfinitePlane, Material, Solid
from dualfocus_ros.simulation.textures import Texture

# ISO 12233: edges slanted by 5 degrees cross the pixel grid at every phase.
_SLANT = math.radians(5.0)
_CEILING = 2.4  # m
_CARD = 5e-4  # thickness in m; too thin for a visible difference in focus
_TARGET_STREAM = 3
_WHITE_PERCENTILE = 97.0


def table(builder: SceneBuilder) -> tuple[Scene, Pose]:
    """Build a table top with objects in front of a wall, 0.4 to 2.5 m."""
    near, edge = builder.uniform(0.40, 0.48), builder.uniform(1.1, 1.5)
    pose = builder.pose_over_floor(near, edge, far_row=-builder.uniform(0.45, 0.8))
    _, far_side = builder.floor_point(pose, 0.0, edge)
    wall = far_side + builder.uniform(0.5, 0.85)
    extent = 3.0 * builder.tangent_x * near
    top = builder.large_material(extent, 'wood', 'wood', 'terrazzo', 'fabric')
    builder.add(Box((0.0, far_side - 1.5, -0.02), (6.0, 3.0, 0.04), top))
    _wall(builder, wall)
    carpet = builder.large_material(0.8, 'carpet')
    builder.add(InfinitePlane((0.0, 0.0, -0.75), (0.0, 0.0, 1.0), carpet))
    count, kinds = builder.integer(6, 10), ('parcel', 'books', 'can', 'bottle', 'mug', 'ball')
    builder.scatter(pose, (1.1 * near, 0.92 * edge), count, kinds, (0.03, 0.26))
    lights = builder.lights((0.0, 0.8, 0.2), 1.3)
    return builder.build(lights, contact=0.02), pose


def floor(builder: SceneBuilder) -> tuple[Scene, Pose]:
    """Build a floor with boxes and a wall at its end, 0.5 to 6 m."""
    near, far = builder.uniform(0.5, 0.7), builder.uniform(3.5, 5.5)
    pose = builder.pose_over_floor(near, far, far_row=-builder.uniform(0.5, 0.95))
    extent = 4.0 * builder.tangent_x * near
    ground = builder.large_material(
        max(extent, 0.5), 'carpet', 'tiles', 'wood', 'concrete', 'terrazzo'
    )
    builder.add(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), ground))
    _, end = builder.floor_point(pose, 0.0, far)
    _wall(builder, end)
    count, kinds = builder.integer(5, 9), ('parcel', 'parcel', 'parcel', 'bin', 'books', 'ball')
    builder.scatter(pose, (1.25 * near, 0.85 * far), count, kinds, (0.08, 0.6))
    lights = builder.lights((0.0, 2.0, 0.6), 2.2)
    return builder.build(lights, contact=0.05), pose


def _wall(builder: SceneBuilder, distance: float) -> None:
    """Add a back wall with pictures and possibly a pipe."""
    material = builder.large_material(1.2, 'paint', 'brick', 'concrete', 'tiles', roughness=0.05)
    builder.add(InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), material))
    width = 2.0 * builder.tangent_x * distance
    for _ in range(builder.integer(1, 4)):
        across = width * builder.uniform(0.14, 0.32)
        tall = across * builder.uniform(0.6, 1.4)
        centre = (
            width * builder.uniform(-0.45, 0.45),
            distance - 0.012,
            0.1 * distance * builder.uniform(-0.2, 1.5) + tall / 2,
        )
        picture = builder.object_material('print', 'fabric')
        builder.add(Box(centre, (across, 0.024, tall), picture))
    if builder.chance(0.5):
        height = builder.uniform(0.05, 0.3) * distance
        pipe = builder.object_material('concrete', 'speckle', extent=0.3)
        centre, radius = (0.0, distance - 0.06, height), 0.02 * math.sqrt(distance)
        builder.add(Cylinder(centre, radius, 8.0 * distance, pipe, axis=0))
    skirting = builder.plain_material(0.3, 0.8)
    builder.add(Box((0.0, distance - 0.008, 0.045), (40.0, 0.016, 0.09), skirting))


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
    builder.add(InfinitePlane((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), floor))
    ceiling = builder.large_material(1.2, 'paint', 'concrete', 'tiles', roughness=0.06)
    builder.add(InfinitePlane((0.0, 0.0, _CEILING), (0.0, 0.0, -1.0), ceiling))
    end = builder.large_material(1.0, 'paint', 'brick', 'concrete', roughness=0.08)
    builder.add(InfinitePlane((0.0, length, 0.0), (0.0, -1.0, 0.0), end))
    plaster = builder.large_material(1.0, 'paint', 'brick', 'concrete', 'tiles', roughness=0.12)
    for sign, distance in walls.items():
        x = sign * distance
        builder.add(InfinitePlane((x, 0.0, 0.0), (-sign, 0.0, 0.0), plaster))
        skirting = builder.plain_material(0.15, 0.7)
        builder.add(Box((x - sign * 0.008, length / 2, 0.05), (0.016, length, 0.1), skirting))
        _furnish_wall(builder, sign, x, length, height, pipe=sign != side)
    _end_wall(builder, walls, length, height)
    _add_objects(builder, walls, side, length)
    lights = []
    for step in range(2):
        y = length * (0.25 + 0.5 * step)
        builder.add(Box((0.0, y, _CEILING - 0.02), (0.3, 1.1, 0.04), builder.lamp_material()))
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
            builder.add(Box((x, y + wide / 2, 1.0), (0.05, wide, 2.0), door))
            frame = builder.plain_material(0.2, 0.7)
            for post in (y - 0.04, y + wide + 0.04):
                builder.add(Box((x, post, 1.02), (0.09, 0.08, 2.04), frame))
        else:
            wide = builder.uniform(0.3, 0.7)
            tall = wide * builder.uniform(0.7, 1.4)
            centre = (x, y + wide / 2, max(height + builder.uniform(-0.25, 0.45), tall / 2 + 0.12))
            thick = 0.02 if builder.chance(0.7) else 0.2
            material = builder.object_material('print', 'print', 'panel', 'fabric')
            builder.add(Box(centre, (thick, wide, tall), material))
        y += wide + builder.uniform(0.15, 0.6)
    if pipe and builder.chance(0.7):
        level = max(height + builder.uniform(-0.5, 0.8), 0.15)
        centre, radius = (x - sign * 0.06, length / 2, level), builder.uniform(0.015, 0.04)
        material = builder.object_material('speckle', 'concrete', gloss=0.2, extent=0.4)
        builder.add(Cylinder(centre, radius, length, material, axis=1))


def _end_wall(
    builder: SceneBuilder, walls: dict[float, float], length: float, height: float
) -> None:
    """Add a door or a notice board to the end wall."""
    middle = 0.5 * (walls[1.0] - walls[-1.0])
    if builder.chance(0.5):
        door = builder.object_material('panel')
        builder.add(Box((middle, length, 1.0), (0.85, 0.05, 2.0), door))
        sign = builder.object_material('print')
        builder.add(Box((middle, length - 0.03, 1.5), (0.35, 0.02, 0.25), sign))
    else:
        centre = (middle, length, max(height + 0.2, 0.5))
        builder.add(Box(centre, (0.9, 0.03, 0.7), builder.object_material('print')))


def _add_objects(
    builder: SceneBuilder, walls: dict[float, float], side: float, length: float
) -> None:
    """Add bins, parcels and cylinders along the walls, the first one close to the camera."""
    depth = builder.uniform(0.95, 1.3)
    for number in range(builder.integer(3, 6)):
        # Alternate between the sides of the view, within the walls.
        sign = side if number % 2 == 0 else -side
        width = min(builder.uniform(0.22, 0.45), 0.6 * builder.tangent_x * depth + 0.04)
        reach = min(walls[sign] - 0.6 * width, 0.85 * builder.tangent_x * depth)
        x = sign * reach if reach > 0.0 else 0.0
        kind = builder.rng.choice(('parcel', 'bin', 'parcel', 'books', 'can'))
        builder.place(str(kind), x, depth + width / 2, width, (0.6, 1.6))
        depth = depth * builder.uniform(1.3, 1.7) + 0.15
        if depth > length - math.hypot(width, 0.3):
            break


def target(builder: SceneBuilder, distance: float) -> tuple[Scene, Pose]:
    """Build a board with coarse and fine texture, and a half dark, half bright card on it.

    :param distance: distance of the board along the optical axis, in metres.
    """
    width, height = 2.0 * builder.tangent_x * distance, 2.0 * builder.tangent_y * distance
    textures = builder.large_textures
    gain = 1.0 + 0.35 * textures.noise(1.0) + 0.30 * textures.noise(0.0)
    albedo = np.clip(0.32 * gain, 0.02, 0.9).astype(np.float32)
    board = Texture(np.repeat(albedo[..., None], 3, axis=2), width)
    solids: list[Solid] = [InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), Material(board))]
    half = 0.17 * width
    for sign, reflectance in ((-1.0, 0.06), (1.0, 0.75)):
        plain = Material(Texture(np.full((16, 16, 3), reflectance, np.float32), 1.0))
        centre = (0.5 * sign * half, distance - 0.5 * _CARD, 0.0)
        solids.append(Box(centre, (half, _CARD, 0.56 * height), plain))
    # Uniform light, without ambient occlusion around the card.
    scene = Scene(tuple(solids), (), ambient=(1.0, 1.0, 1.0), contact=1e-6)
    return scene, Pose((0.0, 0.0, 0.0), roll=_SLANT)


@dataclass(frozen=True)
class SceneType:
    """Procedural scene with varied depth.

    :param build: function that returns the scene and the camera pose.
    :param description: contents and depth range.
    :param focus_range: far and near focus of a sweep through the scene, in dioptres.
    """

    build: Callable[[SceneBuilder], tuple[Scene, Pose]]
    description: str
    focus_range: tuple[float, float]


# The order seeds the random streams: append new scenes at the end.
SCENES = {
    'table': SceneType(table, 'objects on a table, 0.4 to 2.5 m', (0.45, 2.5)),
    'floor': SceneType(floor, 'boxes on a floor, 0.5 to 6 m', (0.18, 2.0)),
    'corridor': SceneType(corridor, 'corridor with doors, 0.8 to 8 m', (0.13, 1.7)),
}
SCENE_NAMES = tuple(SCENES)
# Choices of the simulated camera: the calibration target and RGB-D files as well.
CAMERA_SCENES = (*SCENE_NAMES, 'target', 'rgbd')


def make_scene(name: str, seed: int, camera: PinholeCamera) -> SceneImage:
    """Build a scene and return its image and depth.

    :param name: one of :data:`SCENES`.
    :param seed: varies layout, objects, textures, lights and pose.
    :param camera: intrinsics of the image.
    :raises ValueError: for an unknown name.
    """
    if name not in SCENES:
        raise ValueError(f'scene must be one of {", ".join(SCENES)}, got {name!r}')
    rng = np.random.default_rng([SCENE_NAMES.index(name), abs(seed), seed < 0])
    return _photograph(*SCENES[name].build(SceneBuilder(rng, camera)), camera, rng)


def make_target(distance: float, seed: int, camera: PinholeCamera) -> SceneImage:
    """Build the flat calibration target and return its image; it fills the view.

    The target is not one of :data:`SCENES`: flat depth serves neither training nor evaluation.

    :param distance: along the optical axis, in metres.
    :param seed: varies the texture.
    :param camera: intrinsics of the image.
    :raises ValueError: for a distance that is not positive.
    """
    if not distance > 0.0:
        raise ValueError(f'the target distance must be positive, got {distance} m')
    rng = np.random.default_rng([_TARGET_STREAM, abs(seed), seed < 0])
    return _photograph(*target(SceneBuilder(rng, camera), distance), camera, rng)


def _photograph(
    scene: Scene, pose: Pose, camera: PinholeCamera, rng: np.random.Generator
) -> SceneImage:
    """Cast rays, then apply random vignetting and an exposure for the bright parts."""
    image = cast_rays(scene, camera, pose)
    x = (np.arange(camera.width) - camera.cx) / (0.5 * camera.width)
    y = (np.arange(camera.height) - camera.cy) / (0.5 * camera.width)
    vignetting = 1.0 - rng.uniform(0.1, 0.25) * np.add.outer(y * y, x * x)
    colour = image.colour * vignetting.clip(0.2).astype(np.float32)
    white = float(np.percentile(colour[:, ::4, ::4].max(axis=0), _WHITE_PERCENTILE))
    exposed = colour * np.float32(rng.uniform(0.65, 0.9) / max(white, 1e-3))
    # Soft shoulder instead of hard clipping of lamps and highlights.
    exposed = np.where(exposed < 0.8, exposed, 1.0 - 0.2 * np.exp(-(exposed - 0.8) / 0.2))
    return SceneImage(exposed.astype(np.float32), image.depth, camera)
