# SPDX-License-Identifier: Apache-2.0
"""Registry of procedural scenes, and their images through a pinhole camera.

The layout of a scene follows the field of view of its camera: a tele lens and a wide-angle lens
both see the whole depth range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.corridor import corridor
from dualfocus_ros.simulation.ray_casting import Pose, Scene, SceneImage, cast_rays
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.tabletop import floor, table
from dualfocus_ros.simulation.target import target


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
_TARGET_STREAM = 3
_WHITE_PERCENTILE = 97.0


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
    colour = image.colour * _vignetting(camera, rng.uniform(0.1, 0.25))
    white = float(np.percentile(colour[:, ::4, ::4].max(axis=0), _WHITE_PERCENTILE))
    exposed = colour * np.float32(rng.uniform(0.65, 0.9) / max(white, 1e-3))
    # Soft shoulder instead of hard clipping of lamps and highlights.
    exposed = np.where(exposed < 0.8, exposed, 1.0 - 0.2 * np.exp(-(exposed - 0.8) / 0.2))
    return SceneImage(exposed.astype(np.float32), image.depth, camera)


def _vignetting(camera: PinholeCamera, strength: float) -> np.ndarray:
    """Return (H, W) relative brightness: 1 in the centre, falling with the squared radius."""
    x = (np.arange(camera.width) - camera.cx) / (0.5 * camera.width)
    y = (np.arange(camera.height) - camera.cy) / (0.5 * camera.width)
    squared_radius = np.add.outer(y * y, x * x)
    return (1.0 - strength * squared_radius).clip(0.2).astype(np.float32)
