# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes of a robot's day: a table with objects, a floor with boxes, a corridor.

And a flat target to rehearse calibration with.

A scene is laid out for the field of view of its camera, so that the stated depth range fills the
image of a tele lens as well as that of a wide one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.corridor import corridor
from dualfocus_ros.simulation.ray_casting import Pose, Scene, SceneImage, cast_rays
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.tabletop import floor, table
from dualfocus_ros.simulation.target import target

_BUILDERS = {'table': table, 'floor': floor, 'corridor': corridor}
SCENES = tuple(_BUILDERS)
_WHITE_PERCENTILE = 97.0


@dataclass(frozen=True)
class _Vignette:
    strength: float

    def gain(self, camera: PinholeCamera) -> np.ndarray:
        """Return (H, W) relative brightness, 1 in the centre, falling with radius squared."""
        x = (np.arange(camera.width) - camera.cx) / (0.5 * camera.width)
        y = (np.arange(camera.height) - camera.cy) / (0.5 * camera.width)
        radius = np.add.outer(y * y, x * x)
        return (1.0 - self.strength * radius).clip(0.2).astype(np.float32)


def make_scene(name: str, seed: int, camera: PinholeCamera) -> SceneImage:
    """Build a scene and look at it.

    :param name: ``table`` (0.4 to 2.5 m), ``floor`` (0.5 to 6 m) or ``corridor`` (0.8 to 8 m).
    :param seed: varies layout, objects, textures, lights and pose.
    :param camera: the pinhole that looks at it.
    :raises ValueError: for an unknown name.
    """
    if name not in _BUILDERS:
        raise ValueError(f'scene must be one of {", ".join(SCENES)}, got {name!r}')
    rng = np.random.default_rng([SCENES.index(name), abs(seed), seed < 0])
    stage = SceneBuilder(rng, camera)
    return _photograph(*_BUILDERS[name](stage), camera, rng)


def make_target(distance: float, seed: int, camera: PinholeCamera) -> SceneImage:
    """Build the flat target and look at it; it fills the view at any distance.

    Not one of ``SCENES``: there is no depth to learn from or to be measured by.

    :param distance: along the optical axis, metres.
    :param seed: varies the texture.
    :raises ValueError: for a distance that is not positive.
    """
    if not distance > 0.0:
        raise ValueError(f'the target must be at a positive distance, got {distance} m')
    rng = np.random.default_rng([len(SCENES), abs(seed), seed < 0])
    stage = SceneBuilder(rng, camera)
    return _photograph(*target(stage, distance), camera, rng)


def _photograph(
    room: Scene, pose: Pose, camera: PinholeCamera, rng: np.random.Generator
) -> SceneImage:
    """Look at a room through a lens with vignetting, exposed for its bright parts."""
    image = cast_rays(room, camera, pose)
    colour = image.colour * _Vignette(rng.uniform(0.1, 0.25)).gain(camera)
    white = float(np.percentile(colour[:, ::4, ::4].max(axis=0), _WHITE_PERCENTILE))
    exposed = colour * np.float32(rng.uniform(0.65, 0.9) / max(white, 1e-3))
    # A soft shoulder instead of hard clipping of lamps and highlights.
    exposed = np.where(exposed < 0.8, exposed, 1.0 - 0.2 * np.exp(-(exposed - 0.8) / 0.2))
    return SceneImage(exposed.astype(np.float32), image.depth, camera)
