# SPDX-License-Identifier: Apache-2.0
"""Batches of random scenes against scenes composed one by one."""

import numpy as np
import pytest
import torch

from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene, random_scene_batch
from dualfocus_ros.simulation.random_stacks.random_textures import BatchTextures, TextureSource
from training_images import make_photograph

CPU = torch.device('cpu')
SIZE = 64


def scene_batch(seed, count):
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return random_scene_batch(rng, noise, BatchTextures([make_photograph()], CPU), count, SIZE)


def test_batches_and_single_scenes_have_equal_statistics():
    colour, position = scene_batch(0, 48)
    assert colour.shape == (48, 3, SIZE, SIZE) and position.shape == (48, SIZE, SIZE)
    assert colour.min() >= 0.0 and colour.max() <= 1.0
    assert position.min() >= -0.1 and position.max() <= 1.1
    textures = TextureSource([])
    textures.images.append(make_photograph())
    scenes = [random_scene(np.random.default_rng(i), textures, SIZE) for i in range(48)]
    there = torch.from_numpy(np.stack([scene.position for scene in scenes]))
    pixels = torch.from_numpy(np.stack([scene.colour for scene in scenes])).permute(0, 3, 1, 2)
    # Two samples of one distribution: mean and standard deviation agree within their scatter.
    assert float(position.mean()) == pytest.approx(float(there.mean()), abs=0.08)
    assert float(position.std()) == pytest.approx(float(there.std()), abs=0.06)
    assert float(colour.mean()) == pytest.approx(float(pixels.mean()), abs=0.1)
    assert _detail(colour) == pytest.approx(_detail(pixels), rel=0.25)
    # Depth edges: number and sizes of shapes agree.
    assert _edges(position) == pytest.approx(_edges(there), rel=0.3)


def _detail(colour):
    return float(colour.diff(dim=-1).abs().mean())


def _edges(position):
    return float((position.diff(dim=-1).abs() > 0.1).float().mean())
