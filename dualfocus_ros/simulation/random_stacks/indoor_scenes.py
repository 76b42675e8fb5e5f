# SPDX-License-Identifier: Apache-2.0
"""Random views of the procedural indoor scenes, for training."""

from __future__ import annotations

import math

import numpy as np
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import encode_srgb8, linear_to_srgb
from dualfocus_ros.simulation.random_stacks.random_scenes import TrainingScene
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.scenes import SCENE_NAMES, make_scene

# First seed of training scenes: the demo, the examples and the tests use smaller ones.
FIRST_SEED = 1_000_000


def random_indoor_scene(rng: np.random.Generator, size: int) -> TrainingScene:
    """Return a random crop, ``size`` x ``size``, of a random indoor scene and lens."""
    scene = _random_view(rng, size)
    height, width = scene.depth.shape
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    window = np.s_[top : top + size, left : left + size]
    dioptres = 1.0 / scene.depth[window]
    low, high = float(dioptres.min()), float(dioptres.max())
    position = (dioptres - low) / max(high - low, 1e-3)
    colour = linear_to_srgb(torch.from_numpy(scene.colour[:, window[0], window[1]].copy()))
    return TrainingScene(
        colour.permute(1, 2, 0).contiguous().numpy().astype(np.float32),
        position.astype(np.float32),
    )


def random_indoor_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a whole random view, from which crops of ``size`` pixels can be taken.

    :returns: colour (H, W, 3) uint8 sRGB and depth (H, W) float32 in metres; H = 1.2 ``size``,
        W = 1.6 ``size``.
    """
    scene = _random_view(rng, size)
    colour = encode_srgb8(np.ascontiguousarray(scene.colour.transpose(1, 2, 0)))
    return colour, scene.depth.astype(np.float32)


def _random_view(rng: np.random.Generator, size: int) -> SceneImage:
    width, height = int(1.6 * size), int(1.2 * size)
    field_of_view = math.radians(rng.uniform(18.0, 65.0))
    focal = 0.5 * width / math.tan(0.5 * field_of_view)
    camera = PinholeCamera.centred(width, height, focal)
    name = SCENE_NAMES[rng.integers(len(SCENE_NAMES))]
    return make_scene(name, FIRST_SEED + int(rng.integers(2**31)), camera)
