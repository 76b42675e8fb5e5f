# SPDX-License-Identifier: Apache-2.0
"""A training job as the command line describes it: data, training, release."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.inference.device import describe_device, resolve_device, resolve_precision
from dualfocus_ros.models.weights import LoadedModel, load_model
from dualfocus_ros.simulation.random_stacks.random_textures import read_images
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack, RenderSettings
from dualfocus_ros.training.batch_sources import BatchSource, GeneratedSource, PoolSource
from dualfocus_ros.training.batches import BatchConfig, TrainingStack, to_stack
from dualfocus_ros.training.distributed import DistributedContext
from dualfocus_ros.training.model_adapters import ModelAdapter, make_adapter
from dualfocus_ros.training.release import (
    calibrate_sigma,
    environment_info,
    evaluate_stacks,
    write_release,
)
from dualfocus_ros.training.sigma_fit import collect_sigma_samples, fit_sigma
from dualfocus_ros.training.stack_generator import StackGenerator
from dualfocus_ros.training.stack_pool import (
    SCENE_SIZE,
    SceneFolders,
    load_rgbd_views,
    render_indoor_views,
    render_pool,
)
from dualfocus_ros.training.stop_signals import catch_stop
from dualfocus_ros.training.trainer import Trainer, TrainerConfig

logger = logging.getLogger(__name__)

INTERRUPTED = 130
# Seeds of what is measured on lie this far from those of what is trained on.
HELD_OUT = 1_000_000
MEASURED_PLANES = 6
PREVIEWS = 3


class _StoppedError(Exception):
    """A signal came."""


def run_training(arguments: argparse.Namespace, team: DistributedContext, device_name: str) -> int:
    """Train as the arguments of ``dualfocus train`` say; return the exit status.

    0 when the plan is done or the window is over, 130 after Ctrl-C or SIGTERM.
    """
    device = resolve_device(device_name)
    if not team.is_main:
        logging.getLogger('dualfocus_ros').setLevel(logging.WARNING)
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = True
    kind = make_adapter(
        arguments.config, tuple(arguments.without), arguments.literal, beta=arguments.beta
    )
    start = load_model(arguments.start) if arguments.start else None
    settings = TrainerConfig(
        steps=arguments.steps,
        max_minutes=arguments.max_minutes,
        window=arguments.window,
        learning_rate=arguments.learning_rate,
        precision=training_precision(arguments.precision, device),
        sample_every=arguments.sample_every,
        seed=arguments.seed,
        batch=BatchConfig(arguments.batch, arguments.crop, tuple(arguments.planes)),
    )
    data = _Data(arguments, device)
    if arguments.only_sigma:
        assert start is not None
        return _fit_sigma(arguments, kind, start, settings, data, device)
    trainer = Trainer(
        kind, settings, arguments.out, device, data=data.describe(), team=team, start=start
    )
    logger.info(
        'training %s on %s, %s, %d steps of %d stacks',
        arguments.config,
        describe_device(device),
        settings.precision,
        settings.steps,
        settings.batch.size * team.size,
    )
    # The first process renders what is missing, then the others read it.
    if team.is_main:
        data.render()
    team.wait()
    if arguments.prepare:
        return _prepared()
    held_out = data.held_out() if team.is_main else []
    source = data.source(settings.batch, team.rank)
    previews = held_out[:PREVIEWS] if settings.sample_every else []
    with catch_stop() as request:
        done = trainer.run(source, previews, lambda: bool(request))
    if not done:
        logger.info(
            'stopped at step %d of %d, all saved: start again with the same --out to go on',
            trainer.step,
            settings.steps,
        )
        return INTERRUPTED if request else 0
    if team.is_main:
        facts = {
            'start': trainer.start_sha256,
            'steps': trainer.step,
            'minutes': round(trainer.seconds / 60.0, 1),
            'processes': team.size,
            'settings': asdict(settings),
            'losses': trainer.kind.describe()['loss'],
        }
        _release(arguments, trainer.kind, trainer.averaged().to(device), facts, held_out, data)
    return 0


def _fit_sigma(
    arguments: argparse.Namespace,
    kind: ModelAdapter,
    start: LoadedModel,
    settings: TrainerConfig,
    data: _Data,
    device: torch.device,
) -> int:
    """Fit sigma of given weights and write them; nothing is kept of a fit that is interrupted."""
    kind = kind.for_finetuning(start.network)
    data.render()
    if arguments.prepare:
        return _prepared()
    source = data.source(settings.batch, 0)
    network = start.network.to(device)
    with catch_stop() as request:

        def check_stop() -> None:
            if request:
                raise _StoppedError

        try:
            samples = collect_sigma_samples(
                network, source, settings.steps, settings.seed, check_stop
            )
            fit_sigma(network, samples, settings.seed, check_stop)
        except _StoppedError:
            logger.info('stopped, nothing was written: start again for the whole of it')
            return INTERRUPTED
    facts = {
        'start': start.sha256,
        'only': 'sigma',
        'batches': settings.steps,
        'pixels': len(samples.error),
        'settings': {'batch': asdict(settings.batch)},
    }
    _release(arguments, kind, network, facts, data.held_out(), data)
    return 0


def _prepared() -> int:
    logger.info('all is rendered: start again without --prepare to train')
    return 0


def training_precision(name: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16 for a name on the command line; ``auto`` is what the device likes.

    :raises DeviceError: for fp16 on a CPU.
    """
    if name == 'auto':
        if device.type != 'cuda':
            return 'fp32'
        # Older ones only emulate bfloat16.
        return 'bf16' if torch.cuda.get_device_capability(device)[0] >= 8 else 'fp16'
    resolve_precision(name, device)
    return name


class _Data:
    """What the run trains on and what it is measured on."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self._seed, self._workers = arguments.seed, arguments.workers
        self._stacks, self._views = arguments.stacks, arguments.views
        self._reuse = arguments.reuse
        self._held_out, self.device = arguments.held_out, device
        self._out: Path = arguments.out
        self._material = SceneFolders(tuple(arguments.textures), tuple(arguments.rgbd))
        self._settings = RenderSettings(
            planes=max(arguments.planes[1], MEASURED_PLANES),
            asymmetry=arguments.asymmetry,
            blank=arguments.blank,
            blur_range=tuple(arguments.blur or RenderSettings.blur_range),
        )
        self._images = read_images(list(arguments.textures))
        kind = arguments.data
        if kind == 'auto':
            kind = 'generated' if device.type == 'cuda' else 'pool'
        self.kind: str = kind

    def describe(self) -> dict[str, Any]:
        count = {'stacks': self._stacks}
        if self.kind == 'generated':
            count = {'indoor_views': self._views, 'reuse': self._reuse}
        material = self._material.describe()
        return {'source': self.kind, **count, **material, 'render': asdict(self._settings)}

    def render(self) -> None:
        """Render what has to be there before training starts; what is there stays."""
        if self.kind == 'pool':
            self._pool('stacks', self._stacks, self._seed)
            self._pool('held_out', self._held_out, self._seed + HELD_OUT)
        else:
            self._training_views()
            self._held_out_views()

    def held_out(self) -> list[TrainingStack]:
        """Return stacks that are not trained on."""
        if self.kind == 'pool':
            pool = self._pool('held_out', self._held_out, self._seed + HELD_OUT)
            return [to_stack(stack, self.device) for stack in pool]
        rng = np.random.default_rng(self._seed + HELD_OUT)
        return self._generator(self._held_out_views()).render(rng, self._held_out)

    def source(self, settings: BatchConfig, rank: int) -> BatchSource:
        """Return the source of batches for one process."""
        if self.kind == 'pool':
            pool = self._pool('stacks', self._stacks, self._seed)
            return PoolSource(pool, settings, self._seed, rank, self.device)
        generator = self._generator(self._training_views())
        return GeneratedSource(generator, settings, self._seed, rank, reuse=self._reuse)

    def _pool(self, name: str, count: int, seed: int) -> list[RenderedStack]:
        out, settings = self._out / name, self._settings
        return render_pool(out, count, seed, self._material, self._workers, settings, SCENE_SIZE)

    def _training_views(self) -> list[RgbdSample]:
        out, count = self._out / 'views', self._views
        return render_indoor_views(out, count, self._seed, self._workers, SCENE_SIZE)

    def _held_out_views(self) -> list[RgbdSample]:
        out, count = self._out / 'held_out_views', max(self._held_out // 3, 1)
        return render_indoor_views(out, count, self._seed + HELD_OUT, self._workers, SCENE_SIZE)

    def _generator(self, indoor: list[RgbdSample]) -> StackGenerator:
        return StackGenerator(
            self._settings,
            SCENE_SIZE,
            self.device,
            textures=self._images,
            indoor=indoor,
            rgbd=load_rgbd_views(self._material.rgbd),
        )


def _release(
    arguments: argparse.Namespace,
    kind: ModelAdapter,
    network: nn.Module,
    facts: dict[str, Any],
    held_out: list[TrainingStack],
    data: _Data,
) -> None:
    """Calibrate sigma on one half of the held-out stacks, measure on the other, write."""
    half = len(held_out) // 2
    factor = calibrate_sigma(kind, network, held_out[:half], MEASURED_PLANES)
    metrics, _ = evaluate_stacks(kind, network, held_out[half:], MEASURED_PLANES)
    recipe = {
        'configuration': arguments.config,
        'without': arguments.without,
        'literal': arguments.literal,
        'data': data.describe(),
        'seed': arguments.seed,
        **facts,
        'sigma_scaled_by': None if factor is None else round(factor, 4),
        **environment_info(data.device),
    }
    parts = [f'no-{p}' for p in arguments.without] + ['literal'] * arguments.literal
    name = arguments.name or '-'.join([arguments.config, *parts])
    write_release(arguments.out, name, kind, network.cpu(), recipe, metrics)
    logger.info('wrote %s: %s', arguments.out / f'{name}.safetensors', asdict(metrics))
