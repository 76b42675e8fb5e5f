# SPDX-License-Identifier: Apache-2.0
"""Training resumes exactly, batches are what they claim, releases are calibrated."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from dualfocus_ros.data.random_scenes import TextureSource, random_scene
from dualfocus_ros.data.rendered_stacks import (
    RenderedStack,
    RenderSettings,
    render_training_stack,
)
from dualfocus_ros.network.model import DualFocusConfig
from dualfocus_ros.network.weights import load_model
from dualfocus_ros.training.batches import BatchSettings, choose_planes, draw_batch
from dualfocus_ros.training.release import calibrate_sigma, measure, write_release
from dualfocus_ros.training.trainer import Trainer, TrainSettings

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def pool():
    """Two small rendered stacks."""
    textures = TextureSource([])
    stacks = []
    for index in range(2):
        rng = np.random.default_rng([7, index])
        settings = RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6)
        stacks.append(
            render_training_stack(rng, lambda r: random_scene(r, textures, 96), settings)
        )
    return stacks


def settings(steps):
    return TrainSettings(
        steps=steps, checkpoint_every=1, batch=BatchSettings(size=2, crop=64, planes=(3, 5))
    )


def test_rendered_stacks_depend_on_the_seed_alone(pool):
    rng = np.random.default_rng([7, 1])
    again = render_training_stack(
        rng,
        lambda r: random_scene(r, TextureSource([]), 96),
        RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6),
    )
    assert np.array_equal(again.images, pool[1].images)
    assert not np.array_equal(pool[0].images, pool[1].images)


def test_batches_have_ascending_focus_and_matching_truth(pool):
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = draw_batch(rng, pool, BatchSettings(size=3, crop=64, planes=(3, 5)))
        size, planes = batch.images.shape[:2]
        assert size == 3 and 3 <= planes <= 5
        assert batch.images.shape[2:] == (3, 64, 64) and batch.truth.shape == (3, 64, 64)
        assert batch.images.min() >= 0.0 and batch.images.max() <= 1.0
        assert (batch.focus.diff(dim=1) > 0).all()


def test_augmentation_keeps_sharpness_where_the_truth_says():
    """The plane focused at a pixel's depth must stay the one that is sharp there."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    flat = np.full_like(texture, 128)
    # The left half lies at 0 and is sharp in the first plane, the right half at 1.
    position = np.zeros((64, 64), np.float32)
    position[:, 32:] = 1.0
    left = np.arange(64)[None, :, None] < 32
    images = np.stack([np.where(left, texture, flat), flat, np.where(left, flat, texture)])
    stack = RenderedStack(images, np.float32([0.0, 0.5, 1.0]), position)
    for _ in range(30):
        batch = draw_batch(rng, [stack], BatchSettings(size=1, crop=64, planes=(3, 3)))
        contrast = batch.images[0].std(dim=1)
        grey = batch.images[0].mean(dim=1)
        near = batch.truth[0] > 0.5
        assert grey[-1][near].std() > 5 * grey[0][near].std()
        assert grey[0][~near].std() > 5 * grey[-1][~near].std()
        assert contrast.isfinite().all()


@pytest.mark.parametrize('count', [2, 4, 10])
def test_chosen_planes_are_distinct_and_sorted(count):
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = choose_planes(rng, 10, count)
        assert len(chosen) == count and (np.diff(chosen) > 0).all()


def test_training_resumes_exactly_where_it_stopped(pool, tmp_path):
    whole = Trainer(SMALL, settings(4), tmp_path / 'whole', CPU)
    # The rate follows the plan: stop the second run by hand half-way of the same plan.
    expected = whole.run(pool).state_dict()

    first = Trainer(SMALL, settings(4), tmp_path / 'parts', CPU)
    for _ in range(2):
        first._train_step(draw_batch(first.rng, pool, first.settings.batch))
    first.save()
    second = Trainer(SMALL, settings(4), tmp_path / 'parts', CPU)
    assert second.step == 2
    found = second.run(pool).state_dict()
    for name, value in expected.items():
        assert torch.allclose(found[name].float(), value.float(), atol=1e-6), name


def test_training_lowers_the_error(pool, tmp_path):
    plan = replace(settings(60), warmup=5, learning_rate=5e-3, checkpoint_every=60)
    trainer = Trainer(SMALL, plan, tmp_path, CPU)
    before, _ = measure(trainer.averaged(), pool, planes=5)
    after, _ = measure(trainer.run(pool), pool, planes=5)
    assert after.mean_absolute_error < 0.8 * before.mean_absolute_error
    rows = (tmp_path / 'log.csv').read_text().splitlines()
    assert rows[0].startswith('step,minutes,loss,depth') and rows[1].startswith('50,')


def test_checkpoint_of_another_network_is_refused(pool, tmp_path):
    Trainer(SMALL, settings(1), tmp_path, CPU).run(pool)
    with pytest.raises(ValueError, match='another network configuration'):
        Trainer(DualFocusConfig(surfaces=3, blocks=1), settings(1), tmp_path, CPU)


def test_released_weights_are_calibrated_and_listed(pool, tmp_path):
    model = Trainer(SMALL, settings(5), tmp_path / 'run', CPU).run(pool)
    calibrate_sigma(model, pool, planes=4)
    metrics, _ = measure(model, pool, planes=4)
    assert metrics.within_one_sigma == pytest.approx(0.6827, abs=0.01)
    digest = write_release(tmp_path, 'tiny', model, {'seed': 1}, metrics)
    entry = json.loads((tmp_path / 'manifest.json').read_text())['models']['tiny']
    assert entry['sha256'] == digest == load_model(str(tmp_path / 'tiny.safetensors')).sha256
    assert entry['held_out_rendered_stacks']['stacks'] == 2
