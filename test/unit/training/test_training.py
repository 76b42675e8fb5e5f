# SPDX-License-Identifier: Apache-2.0
"""Training resumes exactly, batches are what they claim, releases are calibrated."""

from dataclasses import replace
import json
import os
import signal

import numpy as np
from PIL import Image
import pytest
from safetensors.torch import load_file
import torch

from dualfocus_ros.models.dfv import load_dfv
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS, DualFocusConfig
from dualfocus_ros.models.weights import load_model
from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderedStack,
    RenderSettings,
    draw_capture,
    render_training_stack,
)
from dualfocus_ros.training import sigma_fit
from dualfocus_ros.training.batch_sources import PoolSource
from dualfocus_ros.training.batches import (
    Batch,
    BatchConfig,
    choose_planes,
    draw_batch,
    sharpen,
    to_stack,
)
from dualfocus_ros.training.losses import PAPER_LOSS, LossWeights
from dualfocus_ros.training.model_adapters import DFVAdapter, DualFocusAdapter, make_adapter
from dualfocus_ros.training.release import calibrate_sigma, evaluate_stacks, write_release
from dualfocus_ros.training.sigma_fit import PIXELS_PER_CROP, collect_sigma_samples, fit_sigma
from dualfocus_ros.training.stop_signals import catch_stop
from dualfocus_ros.training.trainer import Trainer, TrainerConfig

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)
KIND = DualFocusAdapter(SMALL, LossWeights())
CPU = torch.device('cpu')
RENDER = RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6, wide_sweeps=0.0)


@pytest.fixture(scope='module')
def pool():
    """Two small rendered stacks."""
    textures = TextureSource([])
    return [
        render_training_stack(
            np.random.default_rng([7, index]), lambda r: random_scene(r, textures, 96), RENDER
        )
        for index in range(2)
    ]


def test_surfaces_can_be_blank():
    """To a camera of 8 bits, but for the noise."""
    rng = np.random.default_rng(0)
    blank, usual = (
        [TextureSource([], share).draw(rng, 32).std(axis=(0, 1)).max() for _ in range(24)]
        for share in (1.0, 0.0)
    )
    assert max(blank) < 0.02 < np.median(usual)


@pytest.fixture(scope='module')
def stacks(pool):
    return [to_stack(stack, CPU) for stack in pool]


def settings(steps, **changes):
    batch = BatchConfig(size=2, crop=64, planes=(3, 5))
    return TrainerConfig(steps=steps, checkpoint_every=1000, batch=batch, **changes)


def source(pool, seed=1, rank=0):
    return PoolSource(pool, settings(1).batch, seed, rank, CPU)


def test_rendered_stacks_depend_on_the_seed_alone(pool):
    rng = np.random.default_rng([7, 1])
    again = render_training_stack(rng, lambda r: random_scene(r, TextureSource([]), 96), RENDER)
    assert np.array_equal(again.images, pool[1].images)
    assert not np.array_equal(pool[0].images, pool[1].images)


def test_some_sweeps_reach_far_beyond_the_scene():
    rng = np.random.default_rng(0)
    sweeps = [draw_capture(rng, RenderSettings(), 64).focus for _ in range(300)]
    far = np.array([sweep[0] for sweep in sweeps])
    near = np.array([sweep[-1] for sweep in sweeps])
    assert far.min() < -0.6 and near.max() > 1.6
    # Half of the ends are drawn from the wide range, and part of that is no wider.
    assert 0.3 < (far < -0.2).mean() < 0.5 and 0.3 < (near > 1.2).mean() < 0.5
    narrow = [draw_capture(rng, RENDER, 64).focus for _ in range(100)]
    assert min(s[0] for s in narrow) > -0.25 and max(s[-1] for s in narrow) < 1.25


def test_batches_have_ascending_focus_and_matching_truth(stacks):
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = draw_batch(rng, stacks, BatchConfig(size=3, crop=64, planes=(3, 5)))
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
    stack = to_stack(RenderedStack(images, np.float32([0.0, 0.5, 1.0]), position), CPU)
    for _ in range(30):
        batch = draw_batch(rng, [stack], BatchConfig(size=1, crop=64, planes=(3, 3)))
        grey = batch.images[0].mean(dim=1)
        near = batch.truth[0] > batch.focus[0, 1]
        assert grey[-1][near].std() > 5 * grey[0][near].std()
        assert grey[0][~near].std() > 5 * grey[-1][~near].std()


def test_sharpening_is_one_filter_for_all_planes_of_a_stack():
    """What it does to the finest grating and to a flat image; the ends of its range."""
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


def test_a_batch_follows_from_seed_process_and_step(pool):
    one, again = source(pool), source(pool)
    again.batch(0)
    assert torch.equal(one.batch(3).images, again.batch(3).images)
    assert not _same(one.batch(3), one.batch(4))
    assert not _same(one.batch(3), source(pool, rank=1).batch(3))


def _same(one, other):
    return one.images.shape == other.images.shape and torch.equal(one.images, other.images)


def test_resumed_training_is_the_same_to_the_last_bit(pool, tmp_path):
    whole = Trainer(KIND, settings(5), tmp_path / 'whole', CPU)
    assert whole.run(source(pool))

    calls = iter([False, False, True])
    first = Trainer(KIND, settings(5), tmp_path / 'parts', CPU)
    assert not first.run(source(pool), stop=lambda: next(calls))
    second = Trainer(KIND, settings(5), tmp_path / 'parts', CPU)
    assert second.step == 2
    assert second.run(source(pool))

    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
        assert torch.equal(second.average[name], whole.average[name]), name
    moments, again = _moments(whole), _moments(second)
    assert moments.keys() == again.keys() and len(moments) > 10
    assert all(torch.equal(moments[name], again[name]) for name in moments)
    assert torch.equal(_rng_of(tmp_path / 'whole'), _rng_of(tmp_path / 'parts'))


def test_training_can_begin_with_given_weights(pool, tmp_path):
    first = Trainer(KIND, settings(1), tmp_path / 'first', CPU)
    path = tmp_path / 'first.safetensors'
    KIND.save(path, first.averaged())
    start = load_model(str(path))
    second = Trainer(KIND, settings(1, seed=2), tmp_path / 'second', CPU, start=start)
    for name, value in start.network.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    assert second.run(source(pool))
    # A run that began otherwise does not go on with them, nor one of another network.
    with pytest.raises(ValueError, match='start'):
        Trainer(KIND, settings(1, seed=2), tmp_path / 'second', CPU)
    other = DualFocusAdapter(replace(SMALL, surfaces=0), LossWeights())
    with pytest.raises(ValueError, match=r'another configuration \(surfaces differ\)'):
        Trainer(other, settings(1), tmp_path / 'third', CPU, start=start)
    with pytest.raises(ValueError, match='this is DFV'):
        Trainer(DFVAdapter(0.03), settings(1), tmp_path / 'fourth', CPU, start=start)


def test_training_goes_on_with_the_smoothing_of_the_weights():
    shipped = load_model('dualfocus-lite').network
    assert shipped.config.smoothing > 0.0
    assert make_adapter('dualfocus-lite').for_finetuning(shipped).config == shipped.config


def test_sigma_alone_can_be_fitted(pool, monkeypatch):
    """Depth stays bit for bit, and two thirds of the errors end below sigma."""
    monkeypatch.setattr(sigma_fit, 'STEPS', 1000)
    torch.manual_seed(1)
    network = KIND.build().eval()
    network.sigma.scale(0.05)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = source(pool)
    samples = collect_sigma_samples(network, data, 6, 1, lambda: None)
    assert len(samples.error) == 6 * settings(1).batch.size * PIXELS_PER_CROP
    assert samples.inputs.shape == (len(samples.error), network.sigma.layers[0].in_channels)

    def covered():
        with torch.no_grad():
            correction = network.sigma.layers(samples.inputs.T[None, :, :, None])[0, 0, :, 0]
        return float((samples.error < (samples.log_spread + correction).exp()).float().mean())

    assert covered() < 0.4
    fit_sigma(network, samples, 1, lambda: None)
    assert covered() == pytest.approx(0.6827, abs=0.02)
    after = network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed and all(name.startswith('sigma.') for name in changed), changed
    # What it was fitted to is what the network says.
    batch = data.batch(0)
    with torch.no_grad():
        said = network(batch.images, batch.focus).value_sigma
    assert torch.isfinite(said).all() and (said > 0.0).all()


def test_a_sigma_that_is_not_learned_cannot_be_fitted(pool):
    with pytest.raises(ValueError, match='no learned sigma'):
        collect_sigma_samples(
            make_adapter('dualfocus-paper').build(), source(pool), 1, 1, lambda: None
        )


def _moments(trainer):
    state = trainer.optimiser.state_dict()['state']
    return {(i, name): value for i, entry in state.items() for name, value in entry.items()}


def _rng_of(folder):
    return load_file(folder / 'checkpoint.safetensors')['random.torch']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_everything_saved(pool, tmp_path, number):
    class Interrupting(PoolSource):
        def batch(self, step):
            if step == 1:
                os.kill(os.getpid(), number)
            return super().batch(step)

    data = Interrupting(pool, settings(1).batch, 1, 0, CPU)
    before = signal.getsignal(number)
    with catch_stop() as request:
        done = Trainer(KIND, settings(9), tmp_path, CPU).run(data, stop=lambda: bool(request))
    assert not done and request.signal == number
    assert signal.getsignal(number) is before
    assert Trainer(KIND, settings(9), tmp_path, CPU).step == 2


def test_a_window_ends_the_run_and_not_the_plan(pool, tmp_path):
    assert not Trainer(KIND, settings(500, window=1e-6), tmp_path, CPU).run(source(pool))
    again = Trainer(KIND, settings(500), tmp_path, CPU)
    assert again.progress < 0.01


def test_minutes_end_the_plan(pool, tmp_path):
    trainer = Trainer(KIND, settings(100000, max_minutes=1e-4), tmp_path, CPU)
    assert trainer.run(source(pool)) and trainer.step < 100


@pytest.mark.parametrize(
    ('kind', 'changes', 'data', 'named'),
    [
        (KIND, {'learning_rate': 1e-3}, {'stacks': 2}, 'learning_rate was 0.002, now 0.001'),
        (KIND, {'precision': 'bf16'}, {'stacks': 2}, 'precision was fp32, now bf16'),
        (KIND, {}, {'stacks': 3}, 'data.stacks was 2, now 3'),
        (
            DualFocusAdapter(replace(SMALL, surfaces=3), LossWeights()),
            {},
            {'stacks': 2},
            'config.surfaces was 2, now 3',
        ),
        (
            DualFocusAdapter(SMALL, LossWeights(focal=0.0)),
            {},
            {'stacks': 2},
            f'loss.focal was {LossWeights().focal}, now 0.0',
        ),
        (DFVAdapter(0.03), {}, {'stacks': 2}, 'network was DualFocus, now DFV'),
    ],
)
def test_other_settings_are_refused_by_name(pool, tmp_path, kind, changes, data, named):
    plan = settings(1)
    Trainer(KIND, plan, tmp_path, CPU, data={'stacks': 2}).save()
    with pytest.raises(ValueError, match='other settings') as error:
        Trainer(kind, replace(plan, **changes), tmp_path, CPU, data=data)
    assert named.partition(' ')[0] in str(error.value)
    if not isinstance(kind, DFVAdapter):
        assert named in str(error.value)


def test_a_plan_may_be_extended(pool, tmp_path):
    assert Trainer(KIND, settings(1), tmp_path, CPU).run(source(pool))
    longer = Trainer(KIND, settings(2, max_minutes=60.0), tmp_path, CPU)
    assert longer.run(source(pool)) and longer.step == 2


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / 'checkpoint.safetensors').write_bytes(b'half of it')
    with pytest.raises(ValueError, match='not a checkpoint'):
        Trainer(KIND, settings(1), tmp_path, CPU)


def test_a_step_of_nonsense_changes_no_weights(pool, tmp_path):
    class Nonsense(PoolSource):
        def batch(self, step):
            batch = super().batch(step)
            return Batch(batch.images * torch.nan, batch.focus, batch.truth)

    trainer = Trainer(KIND, settings(1), tmp_path, CPU)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert trainer.run(Nonsense(pool, settings(1).batch, 1, 0, CPU))
    for name, value in trainer.model.state_dict().items():
        assert torch.isfinite(value).all() and torch.isfinite(trainer.average[name]).all(), name
        if value.dtype.is_floating_point:
            assert torch.equal(value, before[name]), name


def test_unknown_truth_is_left_out(stacks):
    batch = draw_batch(np.random.default_rng(0), stacks, settings(1).batch)
    holes = batch.truth.clone()
    holes[:, :20] = torch.nan
    network = KIND.build()
    loss, terms = KIND.loss(network, replace(batch, truth=holes), _exact)
    loss.backward()
    assert all(torch.isfinite(t).all() for t in terms.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
    whole = KIND.loss(network, batch, _exact)[1]
    assert terms['error'] != whole['error']


def _exact():
    return torch.autocast('cpu', enabled=False)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_trains_with_losses_in_fp32(pool, tmp_path, precision):
    trainer = Trainer(KIND, settings(2, precision=precision), tmp_path, CPU)
    loss, terms = KIND.loss(trainer.model, source(pool).batch(0), trainer._autocast)
    assert loss.dtype == torch.float32
    assert {term.dtype for term in terms.values()} == {torch.float32}
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert trainer.run(source(pool))
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    scale = trainer._scaler.get_scale()
    assert (scale == 1.0) == (precision == 'bf16')
    # A scale that was lowered stands for a step that was skipped.
    if scale in (1.0, 2.0**16):
        assert not all(torch.equal(p, q) for p, q in zip(before, after, strict=True))
    again = Trainer(KIND, settings(2, precision=precision), tmp_path, CPU)
    assert again._scaler.get_scale() == scale


def test_training_lowers_the_error(pool, stacks, tmp_path):
    plan = settings(30, warmup=5, learning_rate=5e-3, sample_every=30, log_every=15)
    trainer = Trainer(KIND, plan, tmp_path, CPU)
    before, _ = evaluate_stacks(KIND, trainer.averaged(), stacks, planes=5)
    assert trainer.run(source(pool), preview=stacks)
    after, _ = evaluate_stacks(KIND, trainer.averaged(), stacks, planes=5)
    assert after.mean_absolute_error < 0.8 * before.mean_absolute_error
    rows = (tmp_path / 'log.csv').read_text().splitlines()
    assert rows[0].startswith('step,minutes,loss,depth') and rows[1].startswith('15,')
    assert rows[0].endswith('learning_rate,samples_per_second,waiting_for_data')
    with Image.open(tmp_path / 'samples' / '0000030.png') as picture:
        assert picture.width == 1900 and np.asarray(picture).std() > 10.0


def test_the_log_of_a_resumed_run_has_no_step_twice(pool, tmp_path):
    trainer = Trainer(KIND, settings(4, log_every=1), tmp_path, CPU)
    trainer.run(source(pool))
    trainer.step = 2  # as after a crash: logged, but not saved
    trainer.save()
    Trainer(KIND, settings(4, log_every=1), tmp_path, CPU).run(source(pool))
    steps = [line.split(',')[0] for line in (tmp_path / 'log.csv').read_text().splitlines()]
    assert steps == ['step', '1', '2', '3', '4']


def test_dfv_trains_in_the_same_loop(pool, stacks, tmp_path):
    kind = DFVAdapter(beta=0.03)
    trainer = Trainer(kind, settings(1), tmp_path, CPU)
    before = trainer.model.trunk.stem[0].weight.detach().clone()
    assert trainer.run(source(pool))
    assert not torch.equal(trainer.model.trunk.stem[0].weight, before)
    metrics, _ = evaluate_stacks(kind, trainer.averaged(), stacks[:1], planes=3)
    assert not kind.scale_sigma(trainer.model, 2.0)
    write_release(tmp_path, 'dfv', kind, trainer.averaged(), {}, metrics)
    loaded = load_dfv(tmp_path / 'dfv.safetensors')
    assert torch.equal(loaded.trunk.stem[0].weight, trainer.average['trunk.stem.0.weight'])


def test_the_loss_of_dfv_weighs_four_scales(stacks):
    batch = draw_batch(np.random.default_rng(0), stacks, settings(1).batch)
    target = (batch.truth - batch.focus[:, :1, None]) / (
        batch.focus[:, -1:, None] - batch.focus[:, :1, None]
    )
    wrong = [0.1, 0.2, 0.3, 0.4]
    planes = []

    def network(images, focus):
        # Far to near, and normalised as the target.
        planes.append(focus)
        return [target + offset for offset in wrong]

    loss, terms = DFVAdapter(beta=0.03).loss(network, batch, _exact)
    # Smooth-L1 beyond beta is |e| - beta / 2.
    expected = sum(w * (e - 0.015) for w, e in zip((8, 4, 2, 1), wrong, strict=True)) / 15
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(terms['error']) == pytest.approx(0.1, rel=1e-3)
    assert (planes[0][:, 0] == 0).all() and (planes[0][:, -1] == 1).all()


def test_one_stack_is_too_few_for_dfv(tmp_path):
    plan = replace(settings(1), batch=BatchConfig(size=1, crop=64, planes=(3, 3)))
    with pytest.raises(ValueError, match='2 or more stacks'):
        Trainer(DFVAdapter(0.03), plan, tmp_path, CPU)


def test_crops_must_fit_the_network(tmp_path):
    plan = replace(settings(1), batch=BatchConfig(size=1, crop=80, planes=(3, 3)))
    with pytest.raises(ValueError, match='multiples of 32 pixels'):
        Trainer(DFVAdapter(0.03), plan, tmp_path, CPU)


def test_ablations_leave_out_one_part_each():
    known = {'small': SMALL}
    whole = make_adapter('small', configurations=known)
    assert whole.weights == LossWeights() and whole.config == SMALL
    spatial = make_adapter('small', ('spatial',), configurations=known)
    assert spatial.weights == replace(LossWeights(), spatial=0.0) and spatial.config == SMALL
    focal = make_adapter('small', ('focal',), configurations=known)
    assert focal.weights == replace(LossWeights(), focal=0.0)
    projection = make_adapter('small', ('projection',), configurations=known)
    assert projection.config == replace(SMALL, surfaces=0) and projection.weights.spatial == 0.0
    assert make_adapter('small', literal=True, configurations=known).weights == PAPER_LOSS
    with pytest.raises(ValueError, match="unknown configuration 'large'"):
        make_adapter('large', configurations=known)
    with pytest.raises(ValueError, match='DFV has no focal'):
        make_adapter('dfv', ('focal',))


@pytest.mark.parametrize('without', [(), ('projection',), ('spatial', 'focal')])
@pytest.mark.parametrize('name', [*CONFIGURATIONS, 'dfv'])
def test_every_parameter_takes_part_in_the_loss(name, without):
    """Processes that train together wait for the gradient of each."""
    if name == 'dfv' and without:
        pytest.skip('DFV has no such parts')
    kind = make_adapter(name, without)
    network = kind.build()
    rng = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.rand((2, 2, 3, 32, 32), generator=rng),
        torch.tensor([[0.3, 1.5]] * 2),
        torch.full((2, 32, 32), 0.8),
    )
    loss, terms = kind.loss(network, batch, _exact)
    loss.backward()
    assert torch.isfinite(loss) and terms['error'] >= 0.0
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('unit', ['dioptres', 'metres'])
def test_networks_of_either_unit_say_positions(unit):
    """Positions below 0 are distances beyond infinity, unless they are moved first."""
    kind = DualFocusAdapter(replace(SMALL, unit=unit), LossWeights())
    focus = torch.tensor([[-0.8, 0.1, 1.7]])
    output = kind.predict(kind.build().eval(), torch.rand(1, 3, 3, 32, 32), focus)
    assert output.position.min() >= -0.8 and output.position.max() <= 1.7
    assert torch.isfinite(output.sigma).all() and (output.sigma >= 0.0).all()


def test_released_weights_are_calibrated_and_listed(pool, stacks, tmp_path):
    trainer = Trainer(KIND, settings(5), tmp_path / 'run', CPU)
    trainer.run(source(pool))
    model = trainer.averaged()
    assert calibrate_sigma(KIND, model, stacks, planes=4) > 0.0
    metrics, _ = evaluate_stacks(KIND, model, stacks, planes=4)
    assert metrics.within_one_sigma == pytest.approx(0.6827, abs=0.01)
    digest = write_release(tmp_path, 'tiny', KIND, model, {'seed': 1}, metrics)
    entry = json.loads((tmp_path / 'manifest.json').read_text())['models']['tiny']
    assert entry['sha256'] == digest == load_model(str(tmp_path / 'tiny.safetensors')).sha256
    assert entry['held_out_rendered_stacks']['stacks'] == 2
