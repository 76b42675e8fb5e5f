# SPDX-License-Identifier: Apache-2.0
"""Random textures, one by one and in batches."""

import numpy as np
import torch

from dualfocus_ros.simulation.random_stacks.random_textures import BatchTextures, TextureSource
from training_images import make_photograph

CPU = torch.device('cpu')


def test_surfaces_can_be_textureless():
    rng = np.random.default_rng(0)
    textureless, usual = (
        [TextureSource([], share).draw(rng, 32).std(axis=(0, 1)).max() for _ in range(24)]
        for share in (1.0, 0.0)
    )
    # 0.02 is the noise of an 8-bit camera.
    assert max(textureless) < 0.02 < np.median(usual)


def test_textures_are_photographs_noise_and_patterns():
    photo, rng = make_photograph(), np.random.default_rng(0)
    textures = BatchTextures([photo], CPU)
    patches = textures.draw(rng, torch.Generator().manual_seed(0), 64, 48)
    assert patches.shape == (64, 3, 48, 48)
    assert patches.min() >= 0.0 and patches.max() <= 1.0
    contrast = patches.std(dim=(1, 2, 3))
    # One in eight is nearly blank; every one has some contrast.
    assert 1 <= int((contrast < 0.04).sum()) <= 32 and (contrast > 0.0).all()
    textureless = BatchTextures([photo], CPU, textureless=1.0)
    assert float(textureless.draw(rng, torch.Generator(), 16, 48).std(dim=(2, 3)).max()) < 0.02
    # The patterns have two colours.
    levels = [len(patch[0].mul(100).round().unique()) for patch in patches]
    assert min(levels) < 45 < max(levels)
