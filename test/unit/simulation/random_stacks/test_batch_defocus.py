# SPDX-License-Identifier: Apache-2.0
"""Batch renderer against the renderer of single scenes."""

import numpy as np
import pytest
import torch

from dualfocus_ros.simulation.defocus import layer_scene, render_stack
from dualfocus_ros.simulation.psf import Aperture
from dualfocus_ros.simulation.random_stacks.batch_defocus import render_batch
from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene_batch
from dualfocus_ros.simulation.random_stacks.random_textures import BatchTextures
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderSettings
from training_images import make_photograph

CPU = torch.device('cpu')
SETTINGS = RenderSettings(planes=4, blur_range=(3.0, 8.0), layers=6)
SIZE = 64


def scene_batch(seed, count):
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return random_scene_batch(rng, noise, BatchTextures([make_photograph()], CPU), count, SIZE)


@pytest.mark.parametrize(
    'aperture',
    [
        Aperture(),
        Aperture('gaussian', softness=0.3),
        Aperture('polygon', blades=5, rotation=0.4),
        Aperture(spherical=0.6, focus_shift=0.1),
    ],
)
def test_batch_and_single_renderer_agree(aperture):
    colour, position = scene_batch(1, 2)
    kappa, focus = np.array([5.0, 9.0]), np.array([[-0.2, 0.3, 1.1], [0.0, 0.6, 1.0]])
    # The second lens blurs more: the batch has larger margins than the first scene needs.
    radii = np.array([0.5 * 5.0 * 1.5, 0.5 * 9.0 * 1.5])
    plain = Aperture()
    both = render_batch(
        colour, position, kappa, focus, [aperture, plain], radii, layers=SETTINGS.layers
    )
    for index, lens in enumerate((aperture, plain)):
        scene = layer_scene(
            colour[index], position[index], layers=SETTINGS.layers, max_radius=radii[index]
        )
        alone = render_stack(scene, kappa[index], torch.tensor(focus[index]), aperture=lens)
        # The border depends on the margins, which differ.
        inner = (slice(None), slice(None), slice(10, -10), slice(10, -10))
        assert float((both[index][inner] - alone[inner]).abs().max()) < 2e-3
        assert float((both[index] - alone).abs().mean()) < 2e-3


def test_chromatic_aberration_raises():
    colour, position = scene_batch(1, 1)
    with pytest.raises(ValueError, match='use render_stack'):
        render_batch(
            colour,
            position,
            np.ones(1),
            np.zeros((1, 2)),
            [Aperture(chromatic=0.1)],
            np.ones(1),
            layers=4,
        )


def test_constant_image_of_a_flat_scene_stays_constant():
    colour = torch.full((1, 3, 32, 32), 0.4)
    position = torch.full((1, 32, 32), 0.5)
    images = render_batch(
        colour,
        position,
        np.array([6.0]),
        np.array([[0.0, 0.5, 1.0]]),
        [Aperture()],
        np.array([3.0]),
        layers=5,
    )
    assert torch.allclose(images, torch.full_like(images, 0.4), atol=1e-5)
