# SPDX-License-Identifier: Apache-2.0
"""Training loop: exact resume, limits, refused settings, skipped steps, log."""

from dataclasses import replace
import os
import signal

import numpy as np
from PIL import Image
import pytest
from safetensors.torch import load_file
import torch

from dualfocus_ros.models.dfv import load_dfv
from dualfocus_ros.models.weights import load_model
from dualfocus_ros.training.batches import Batch, PoolSource
from dualfocus_ros.training.losses import LossWeights
from dualfocus_ros.training.model_adapters import DFVAdapter, DualFocusAdapter
from dualfocus_ros.training.trainer import Trainer
from dualfocus_ros.training.training_config import BatchConfig
from dualfocus_ros.training.training_run import catch_stop, evaluate_stacks, write_release
from small_training import ADAPTER, BATCH, CPU, NETWORK, pool_source, trainer_config


def test_resumed_training_is_bit_exact(pool, tmp_path):
    whole = Trainer(ADAPTER, trainer_config(5), tmp_path / 'whole', CPU)
    assert whole.run(pool_source(pool))

    calls = iter([False, False, True])
    first = Trainer(ADAPTER, trainer_config(5), tmp_path / 'parts', CPU)
    assert not first.run(pool_source(pool), stop=lambda: next(calls))
    second = Trainer(ADAPTER, trainer_config(5), tmp_path / 'parts', CPU)
    assert second.step == 2
    assert second.run(pool_source(pool))

    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
        assert torch.equal(second.average[name], whole.average[name]), name
    moments, again = _moments(whole), _moments(second)
    assert moments.keys() == again.keys() and len(moments) > 10
    assert all(torch.equal(moments[name], again[name]) for name in moments)
    assert torch.equal(_rng_of(tmp_path / 'whole'), _rng_of(tmp_path / 'parts'))


def test_training_starts_from_given_weights(pool, tmp_path):
    first = Trainer(ADAPTER, trainer_config(1), tmp_path / 'first', CPU)
    path = tmp_path / 'first.safetensors'
    ADAPTER.save(path, first.averaged())
    start = load_model(str(path))
    second = Trainer(ADAPTER, trainer_config(1, seed=2), tmp_path / 'second', CPU, start=start)
    for name, value in start.network.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    assert second.run(pool_source(pool))
    # Refuses to resume with other initial weights, and to start from those of another network.
    with pytest.raises(ValueError, match='start'):
        Trainer(ADAPTER, trainer_config(1, seed=2), tmp_path / 'second', CPU)
    other = DualFocusAdapter(replace(NETWORK, surfaces=0), LossWeights())
    with pytest.raises(ValueError, match=r'another configuration \(surfaces differ\)'):
        Trainer(other, trainer_config(1), tmp_path / 'third', CPU, start=start)
    with pytest.raises(ValueError, match='DFV cannot start'):
        Trainer(DFVAdapter(0.03), trainer_config(1), tmp_path / 'fourth', CPU, start=start)


def _moments(trainer):
    state = trainer.optimiser.state_dict()['state']
    return {(i, name): value for i, entry in state.items() for name, value in entry.items()}


def _rng_of(folder):
    return load_file(folder / 'checkpoint.safetensors')['random.torch']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_after_the_step_with_a_checkpoint(pool, tmp_path, number):
    class Interrupting(PoolSource):
        def batch(self, step):
            if step == 1:
                os.kill(os.getpid(), number)
            return super().batch(step)

    data = Interrupting(pool, BATCH, 1, 0, CPU)
    before = signal.getsignal(number)
    with catch_stop() as received:
        done = Trainer(ADAPTER, trainer_config(9), tmp_path, CPU).run(
            data, stop=lambda: bool(received)
        )
    assert not done and received == [number]
    assert signal.getsignal(number) is before
    assert Trainer(ADAPTER, trainer_config(9), tmp_path, CPU).step == 2


def test_window_ends_the_run_but_not_the_schedule(pool, tmp_path):
    assert not Trainer(ADAPTER, trainer_config(500, window_minutes=1e-6), tmp_path, CPU).run(
        pool_source(pool)
    )
    again = Trainer(ADAPTER, trainer_config(500), tmp_path, CPU)
    assert again.progress < 0.01


def test_minutes_end_the_schedule(pool, tmp_path):
    trainer = Trainer(ADAPTER, trainer_config(100000, max_minutes=1e-4), tmp_path, CPU)
    assert trainer.run(pool_source(pool)) and trainer.step < 100


@pytest.mark.parametrize(
    ('adapter', 'changes', 'data', 'named'),
    [
        (ADAPTER, {'learning_rate': 1e-3}, {'stacks': 2}, 'learning_rate was 0.002, now 0.001'),
        (ADAPTER, {'precision': 'bf16'}, {'stacks': 2}, 'precision was fp32, now bf16'),
        (ADAPTER, {}, {'stacks': 3}, 'data.stacks was 2, now 3'),
        (
            DualFocusAdapter(replace(NETWORK, surfaces=3), LossWeights()),
            {},
            {'stacks': 2},
            'config.surfaces was 2, now 3',
        ),
        (
            DualFocusAdapter(NETWORK, LossWeights(focal=0.0)),
            {},
            {'stacks': 2},
            f'loss.focal was {LossWeights().focal}, now 0.0',
        ),
        (DFVAdapter(0.03), {}, {'stacks': 2}, 'network was DualFocus, now DFV'),
    ],
)
def test_resuming_with_other_settings_names_them(pool, tmp_path, adapter, changes, data, named):
    plan = trainer_config(1)
    Trainer(ADAPTER, plan, tmp_path, CPU, data={'stacks': 2}).save()
    with pytest.raises(ValueError, match='other settings') as error:
        Trainer(adapter, replace(plan, **changes), tmp_path, CPU, data=data)
    assert named.partition(' ')[0] in str(error.value)
    if not isinstance(adapter, DFVAdapter):
        assert named in str(error.value)


def test_schedule_can_be_extended(pool, tmp_path):
    assert Trainer(ADAPTER, trainer_config(1), tmp_path, CPU).run(pool_source(pool))
    longer = Trainer(ADAPTER, trainer_config(2, max_minutes=60.0), tmp_path, CPU)
    assert longer.run(pool_source(pool)) and longer.step == 2


def test_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / 'checkpoint.safetensors').write_bytes(b'half of it')
    with pytest.raises(ValueError, match='not a readable checkpoint'):
        Trainer(ADAPTER, trainer_config(1), tmp_path, CPU)


def test_step_without_finite_gradient_is_skipped(pool, tmp_path):
    class NanSource(PoolSource):
        def batch(self, step):
            batch = super().batch(step)
            return Batch(batch.images * torch.nan, batch.focus, batch.truth)

    trainer = Trainer(ADAPTER, trainer_config(1), tmp_path, CPU)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert trainer.run(NanSource(pool, BATCH, 1, 0, CPU))
    for name, value in trainer.model.state_dict().items():
        assert torch.isfinite(value).all() and torch.isfinite(trainer.average[name]).all(), name
        if value.dtype.is_floating_point:
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_keeps_losses_in_fp32(pool, tmp_path, precision):
    trainer = Trainer(ADAPTER, trainer_config(2, precision=precision), tmp_path, CPU)
    loss, terms = ADAPTER.loss(trainer.model, pool_source(pool).batch(0), trainer.autocast)
    assert loss.dtype == torch.float32
    assert {term.dtype for term in terms.values()} == {torch.float32}
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert trainer.run(pool_source(pool))
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    scale = trainer.gradient_scaler.get_scale()
    assert (scale == 1.0) == (precision == 'bf16')
    # A lowered scale is due to a skipped step.
    if scale in (1.0, 2.0**16):
        assert not all(torch.equal(p, q) for p, q in zip(before, after, strict=True))
    again = Trainer(ADAPTER, trainer_config(2, precision=precision), tmp_path, CPU)
    assert again.gradient_scaler.get_scale() == scale


def test_training_lowers_the_error(pool, stacks, tmp_path):
    plan = trainer_config(30, warmup_steps=5, learning_rate=5e-3, sample_every=30, log_every=15)
    trainer = Trainer(ADAPTER, plan, tmp_path, CPU)
    before, _ = evaluate_stacks(ADAPTER, trainer.averaged(), stacks, planes=5)
    assert trainer.run(pool_source(pool), previews=stacks)
    after, _ = evaluate_stacks(ADAPTER, trainer.averaged(), stacks, planes=5)
    assert after.mean_absolute_error < 0.8 * before.mean_absolute_error
    rows = (tmp_path / 'log.csv').read_text().splitlines()
    assert rows[0].startswith('step,minutes,loss,depth') and rows[1].startswith('15,')
    assert rows[0].endswith('learning_rate,samples_per_second,waiting_for_data')
    with Image.open(tmp_path / 'samples' / '0000030.png') as picture:
        assert picture.width == 1900 and np.asarray(picture).std() > 10.0


def test_log_of_a_resumed_run_has_each_step_once(pool, tmp_path):
    trainer = Trainer(ADAPTER, trainer_config(4, log_every=1), tmp_path, CPU)
    trainer.run(pool_source(pool))
    trainer.step = 2  # as after a crash: logged without a checkpoint
    trainer.save()
    Trainer(ADAPTER, trainer_config(4, log_every=1), tmp_path, CPU).run(pool_source(pool))
    steps = [line.split(',')[0] for line in (tmp_path / 'log.csv').read_text().splitlines()]
    assert steps == ['step', '1', '2', '3', '4']


def test_dfv_trains_and_its_weights_load(pool, stacks, tmp_path):
    adapter = DFVAdapter(beta=0.03)
    trainer = Trainer(adapter, trainer_config(1), tmp_path, CPU)
    before = trainer.model.trunk.stem[0].weight.detach().clone()
    assert trainer.run(pool_source(pool))
    assert not torch.equal(trainer.model.trunk.stem[0].weight, before)
    metrics, _ = evaluate_stacks(adapter, trainer.averaged(), stacks[:1], planes=3)
    assert not adapter.scale_sigma(trainer.model, 2.0)
    write_release(tmp_path, 'dfv', adapter, trainer.averaged(), {}, metrics)
    loaded = load_dfv(tmp_path / 'dfv.safetensors')
    assert torch.equal(loaded.trunk.stem[0].weight, trainer.average['trunk.stem.0.weight'])


def test_dfv_needs_two_stacks_per_batch(tmp_path):
    plan = replace(trainer_config(1), batch=BatchConfig(size=1, crop=64, planes=(3, 3)))
    with pytest.raises(ValueError, match='2 or more stacks'):
        Trainer(DFVAdapter(0.03), plan, tmp_path, CPU)


def test_crop_must_be_a_multiple_of_the_stride(tmp_path):
    plan = replace(trainer_config(1), batch=BatchConfig(size=1, crop=80, planes=(3, 3)))
    with pytest.raises(ValueError, match='multiples of 32 pixels'):
        Trainer(DFVAdapter(0.03), plan, tmp_path, CPU)
