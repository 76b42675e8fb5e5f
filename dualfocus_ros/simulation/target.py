# SPDX-License-Identifier: Apache-2.0
"""Flat calibration target parallel to the image: a textured board with a slanted edge."""

from __future__ import annotations

import math

import numpy as np

from dualfocus_ros.simulation.ray_casting import Pose, Scene
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.solids import Box, InfinitePlane, Material, Solid
from dualfocus_ros.simulation.textures import Texture

# ISO 12233: edges slanted by 5 degrees cross the pixel grid at every phase.
SLANT = math.radians(5.0)
_DARK, _BRIGHT = 0.06, 0.75
_CARD = 5e-4  # thickness in m; too thin for a visible difference in focus


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
    for sign, reflectance in ((-1.0, _DARK), (1.0, _BRIGHT)):
        plain = Material(Texture(np.full((16, 16, 3), reflectance, np.float32), 1.0))
        centre = (0.5 * sign * half, distance - 0.5 * _CARD, 0.0)
        solids.append(Box(centre, (half, _CARD, 0.56 * height), plain))
    # Uniform light, without ambient occlusion around the card.
    scene = Scene(tuple(solids), (), ambient=(1.0, 1.0, 1.0), contact=1e-6)
    return scene, Pose((0.0, 0.0, 0.0), roll=SLANT)
