# SPDX-License-Identifier: Apache-2.0
"""Random stacks rendered on the CPU: seeds, lenses and ranges of sweeps."""

from dataclasses import replace

import numpy as np

from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    draw_capture,
    render_training_stack,
)

PLAIN_SETTINGS = RenderSettings(planes=4, blur_range=(3.0, 8.0), layers=6)
SETTINGS = RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6, wide_sweeps=0.0)


def render(seed):
    """Render a stack of 96 pixels."""
    rng, textures = np.random.default_rng(seed), TextureSource([])
    return render_training_stack(rng, lambda r: random_scene(r, textures, 96), SETTINGS)


def test_rendered_stacks_depend_on_the_seed_only():
    first, again, other = render([7, 1]), render([7, 1]), render([7, 0])
    assert np.array_equal(again.images, first.images)
    assert not np.array_equal(other.images, first.images)


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


def test_lenses_are_asymmetric_only_if_configured():
    rng = np.random.default_rng(0)
    plain = [draw_capture(rng, PLAIN_SETTINGS, 64) for _ in range(40)]
    assert all(c.is_uniform and c.aperture.spherical == 0.0 for c in plain)
    mixed = [draw_capture(rng, replace(PLAIN_SETTINGS, asymmetry=0.5), 64) for _ in range(80)]
    bent = [c for c in mixed if c.aperture.spherical]
    assert 25 <= len(bent) <= 55
    assert any(c.field is not None for c in bent) and any(c.aperture.chromatic for c in bent)


def test_even_and_uneven_sweeps_are_ascending():
    rng = np.random.default_rng(3)
    for planes in (2, 5, 20):
        for uneven in (0.0, 1.0):
            settings = replace(PLAIN_SETTINGS, planes=planes, uneven_sweeps=uneven)
            sweeps = [draw_capture(rng, settings, 64).focus for _ in range(200)]
            assert all((np.diff(sweep) > 0.0).all() for sweep in sweeps)
            steps = [np.diff(sweep) for sweep in sweeps if planes > 2]
            ratios = [step.max() / step.min() for step in steps]
            if planes == 5:
                assert (max(ratios) > 4.5) == bool(uneven)
