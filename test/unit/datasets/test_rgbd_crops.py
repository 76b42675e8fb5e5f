# SPDX-License-Identifier: Apache-2.0
"""Training scenes from RGB-D images."""

import numpy as np
import pytest

from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from dualfocus_ros.datasets.samples import RgbdSample


def view(holes=False):
    """A slanted floor with a box in front, 100 x 140 pixels."""
    depth = np.linspace(3.0, 1.0, 100, dtype=np.float32)[:, None].repeat(140, axis=1)
    depth[30:70, 50:90] = 0.8
    if holes:
        depth[:, :30] = np.nan
    colour = np.random.default_rng(4).integers(0, 255, (100, 140, 3), dtype=np.uint8)
    return RgbdSample('view', colour, depth)


def test_nearest_part_of_a_crop_is_at_one():
    for seed in range(5):
        scene = random_rgbd_crop(np.random.default_rng(seed), view(), 80)
        assert scene.known is None and scene.position.shape == (80, 80)
        # The box is nearest; the floor behind it is at least as far as 1 m.
        assert scene.position.max() == pytest.approx(1.0, abs=0.02)
        assert np.isfinite(scene.position).all() and scene.colour.max() <= 1.0


def test_small_images_are_enlarged():
    assert random_rgbd_crop(np.random.default_rng(0), view(), 128).colour.shape == (128, 128, 3)
