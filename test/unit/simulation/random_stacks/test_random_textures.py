# SPDX-License-Identifier: Apache-2.0
"""Random textures drawn on the CPU."""

import numpy as np

from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource


def test_surfaces_can_be_textureless():
    rng = np.random.default_rng(0)
    textureless, usual = (
        [TextureSource([], share).draw(rng, 32).std(axis=(0, 1)).max() for _ in range(24)]
        for share in (1.0, 0.0)
    )
    # 0.02 is the noise of an 8-bit camera.
    assert max(textureless) < 0.02 < np.median(usual)
