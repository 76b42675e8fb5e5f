# SPDX-License-Identifier: Apache-2.0
"""A flat calibration target square to the camera: a textured board with a slanted edge."""

from __future__ import annotations

import math

import numpy as np

from dualfocus_ros.simulation.ray_casting import Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, InfinitePlane, Material, Solid
from dualfocus_ros.simulation.textures import Texture

# ISO 12233 measures edges slanted by 5 degrees, so that they cross the pixels at every phase.
SLANT = math.radians(5.0)
_DARK, _BRIGHT = 0.06, 0.75
_CARD = 5e-4  # m, too thin to be out of focus beside the board


def target(stage: SceneBuilder, distance: float) -> tuple[Scene, Pose]:
    """Build a board of cloudy and fine texture with a half dark, half bright card in its centre.

    :param distance: of the board along the optical axis in metres.
    """
    wide, tall = 2.0 * stage.tangent_x * distance, 2.0 * stage.tangent_y * distance
    maker = stage.wide
    gain = 1.0 + 0.35 * maker.noise(1.0) + 0.30 * maker.noise(0.0)
    albedo = np.clip(0.32 * gain, 0.02, 0.9).astype(np.float32)
    board = Texture(np.repeat(albedo[..., None], 3, axis=2), wide)
    solids: list[Solid] = [InfinitePlane((0.0, distance, 0.0), (0.0, -1.0, 0.0), Material(board))]
    half = 0.17 * wide
    for sign, reflectance in ((-1.0, _DARK), (1.0, _BRIGHT)):
        plain = Material(Texture(np.full((16, 16, 3), reflectance, np.float32), 1.0))
        centre = (0.5 * sign * half, distance - 0.5 * _CARD, 0.0)
        solids.append(Box(centre, (half, _CARD, 0.56 * tall), plain))
    # Even light, and no shade around the card.
    room = Scene(tuple(solids), (), ambient=(1.0, 1.0, 1.0), contact=1e-6)
    return room, Pose((0.0, 0.0, 0.0), roll=SLANT)
