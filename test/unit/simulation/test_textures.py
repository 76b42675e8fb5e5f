# SPDX-License-Identifier: Apache-2.0
"""Procedural textures: value range and filtering."""

import numpy as np
import pytest

from dualfocus_ros.simulation.textures import Texture, TextureGenerator


def test_distant_texture_is_averaged():
    checker = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    texture = Texture(np.repeat(checker[..., None], 3, axis=2))
    u = np.random.default_rng(0).random(500).astype(np.float32)
    near = texture.sample(u, u, np.full(500, 1e-3, np.float32))
    far = texture.sample(u, u, np.full(500, 0.2, np.float32))
    assert near.std() > 0.1
    assert np.allclose(far, 0.5, atol=1e-3)


def test_every_texture_is_a_reflectance():
    maker = TextureGenerator(np.random.default_rng(1), 64)
    names = (
        'paint',
        'concrete',
        'terrazzo',
        'wood',
        'carpet',
        'tiles',
        'brick',
        'fabric',
        'cardboard',
        'print',
        'speckle',
        'panel',
    )
    for name in names:
        albedo = getattr(maker, name)()
        assert albedo.shape == (64, 64, 3) and albedo.dtype == np.float32
        assert albedo.min() >= 0.0 and albedo.max() <= 1.0
        assert albedo.std() > 0.004
    with pytest.raises(ValueError, match='power of two'):
        TextureGenerator(np.random.default_rng(1), 100)
