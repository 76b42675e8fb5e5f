# SPDX-License-Identifier: Apache-2.0
"""Sources of batches are functions of seed, process and step."""

import torch

from small_training import pool_source


def test_batch_depends_on_seed_process_and_step_only(pool):
    one, again = pool_source(pool), pool_source(pool)
    again.batch(0)
    assert torch.equal(one.batch(3).images, again.batch(3).images)
    assert not _same(one.batch(3), one.batch(4))
    assert not _same(one.batch(3), pool_source(pool, rank=1).batch(3))


def _same(one, other):
    return one.images.shape == other.images.shape and torch.equal(one.images, other.images)
