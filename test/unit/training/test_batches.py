# SPDX-License-Identifier: Apache-2.0
"""Batches: seeds, order of focus, matching truth, augmentation."""

import numpy as np
import pytest
import torch

from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack
from dualfocus_ros.training.batches import choose_planes, draw_batch, sharpen
from dualfocus_ros.training.stack_generator import to_stack
from dualfocus_ros.training.training_config import BatchConfig
from small_training import CPU, pool_source


def test_batches_have_ascending_focus_and_matching_truth(stacks):
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = draw_batch(rng, stacks, BatchConfig(size=3, crop=64, planes=(3, 5)))
        size, planes = batch.images.shape[:2]
        assert size == 3 and 3 <= planes <= 5
        assert batch.images.shape[2:] == (3, 64, 64) and batch.truth.shape == (3, 64, 64)
        assert batch.images.min() >= 0.0 and batch.images.max() <= 1.0
        assert (batch.focus.diff(dim=1) > 0).all()


def test_augmentation_keeps_planes_sharp_at_the_true_depth():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    flat = np.full_like(texture, 128)
    # The left half lies at 0 and is sharp in the first plane, the right half at 1.
    position = np.zeros((64, 64), np.float32)
    position[:, 32:] = 1.0
    left = np.arange(64)[None, :, None] < 32
    images = np.stack([np.where(left, texture, flat), flat, np.where(left, flat, texture)])
    stack = to_stack(RenderedStack(images, np.float32([0.0, 0.5, 1.0]), position), CPU)
    for _ in range(30):
        batch = draw_batch(rng, [stack], BatchConfig(size=1, crop=64, planes=(3, 3)))
        grey = batch.images[0].mean(dim=1)
        near = batch.truth[0] > batch.focus[0, 1]
        assert grey[-1][near].std() > 5 * grey[0][near].std()
        assert grey[0][~near].std() > 5 * grey[-1][~near].std()


def test_sharpening_filters_all_planes_equally():
    # The finest grating and a flat image, at both ends of the range.
    columns = torch.arange(32.0) % 2
    grating = columns.expand(1, 2, 3, 32, 32).clone()
    grating[:, 1] = 0.25
    images = grating.repeat(3, 1, 1, 1, 1)
    smooth, same, sharp = sharpen(images, torch.tensor([-1.0, 0.0, 3.0]).view(3, 1, 1, 1, 1))
    torch.testing.assert_close(same, images[0])
    torch.testing.assert_close(smooth[0, ..., 1:-1], torch.full((3, 32, 30), 0.5))
    # Four times the contrast about the same mean.
    torch.testing.assert_close(sharp[0, ..., 1:-1], 0.5 + 4.0 * (images[0, 0, ..., 1:-1] - 0.5))
    torch.testing.assert_close(sharp[1], images[0, 1])


@pytest.mark.parametrize('count', [2, 4, 10])
def test_chosen_planes_are_distinct_and_sorted(count):
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = choose_planes(rng, 10, count)
        assert len(chosen) == count and (np.diff(chosen) > 0).all()


def test_batch_depends_on_seed_process_and_step_only(pool):
    one, again = pool_source(pool), pool_source(pool)
    again.batch(0)
    assert torch.equal(one.batch(3).images, again.batch(3).images)
    assert not _same(one.batch(3), one.batch(4))
    assert not _same(one.batch(3), pool_source(pool, rank=1).batch(3))


def _same(one, other):
    return one.images.shape == other.images.shape and torch.equal(one.images, other.images)
