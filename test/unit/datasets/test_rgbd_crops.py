# SPDX-License-Identifier: Apache-2.0
"""Training scenes from RGB-D images."""

import numpy as np
import pytest

from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from training_images import make_rgbd_image


def test_nearest_part_of_a_crop_is_at_one():
    for seed in range(5):
        scene = random_rgbd_crop(np.random.default_rng(seed), make_rgbd_image(), 80)
        assert scene.known is None and scene.position.shape == (80, 80)
        # The box is nearest; the floor behind it is at least as far as 1 m.
        assert scene.position.max() == pytest.approx(1.0, abs=0.02)
        assert np.isfinite(scene.position).all() and scene.colour.max() <= 1.0


def test_small_images_are_enlarged():
    assert random_rgbd_crop(np.random.default_rng(0), make_rgbd_image(), 128).colour.shape == (
        128,
        128,
        3,
    )
