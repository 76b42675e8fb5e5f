# SPDX-License-Identifier: Apache-2.0
"""Fixtures: small rendered stacks."""

import numpy as np
import pytest

from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import render_training_stack
from dualfocus_ros.training.stack_generator import to_stack
from small_training import CPU, RENDER


@pytest.fixture(scope='session')
def pool():
    """Two small rendered stacks."""
    textures = TextureSource([])
    return [
        render_training_stack(
            np.random.default_rng([7, index]), lambda r: random_scene(r, textures, 96), RENDER
        )
        for index in range(2)
    ]


@pytest.fixture(scope='session')
def stacks(pool):
    """The same stacks on the training device."""
    return [to_stack(stack, CPU) for stack in pool]
