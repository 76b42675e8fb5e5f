# SPDX-License-Identifier: Apache-2.0
"""Random stacks rendered on the CPU: seeds, textures and ranges of sweeps."""

import numpy as np

from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    draw_capture,
    render_training_stack,
)

SETTINGS = RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6, wide_sweeps=0.0)


def render(seed):
    """Render a stack of 96 pixels."""
    rng, textures = np.random.default_rng(seed), TextureSource([])
    return render_training_stack(rng, lambda r: random_scene(r, textures, 96), SETTINGS)


def test_rendered_stacks_depend_on_the_seed_only():
    first, again, other = render([7, 1]), render([7, 1]), render([7, 0])
    assert np.array_equal(again.images, first.images)
    assert not np.array_equal(other.images, first.images)


def test_surfaces_can_be_textureless():
    rng = np.random.default_rng(0)
    textureless, usual = (
        [TextureSource([], share).draw(rng, 32).std(axis=(0, 1)).max() for _ in range(24)]
        for share in (1.0, 0.0)
    )
    # 0.02 is the noise of an 8-bit camera.
    assert max(textureless) < 0.02 < np.median(usual)


def test_some_sweeps_reach_far_beyond_the_scene():
    rng = np.random.default_rng(0)
    sweeps = [draw_capture(rng, RenderSettings(), 64).focus for _ in range(300)]
    far = np.array([sweep[0] for sweep in sweeps])
    near = np.array([sweep[-1] for sweep in sweeps])
    assert far.min() < -0.6 and near.max() > 1.6
    # Half of the ends are drawn from the wide range, which includes narrow sweeps.
    assert 0.3 < (far < -0.2).mean() < 0.5 and 0.3 < (near > 1.2).mean() < 0.5
    narrow = [draw_capture(rng, SETTINGS, 64).focus for _ in range(100)]
    assert min(s[0] for s in narrow) > -0.25 and max(s[-1] for s in narrow) < 1.25
