# SPDX-License-Identifier: Apache-2.0
"""Data of a training run: rendered stacks to train on, and held-out stacks to measure on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.simulation.random_stacks.random_textures import read_images
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack, RenderSettings
from dualfocus_ros.training.batch_sources import BatchSource, GeneratedSource, PoolSource
from dualfocus_ros.training.batches import TrainingStack, to_stack
from dualfocus_ros.training.stack_generator import StackGenerator
from dualfocus_ros.training.stack_pool import (
    SceneFolders,
    load_rgbd_views,
    render_indoor_views,
    render_pool,
)
from dualfocus_ros.training.training_config import BatchConfig, TrainingConfig

# Planes of the held-out stacks.
MEASURED_PLANES = 6
# Difference of the seeds of held-out stacks and of stacks to train on.
HELD_OUT_SEED = 1_000_000


class TrainingData:
    """Sources of stacks of a run, rendered into the folder of the run."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self._config, self._out, self._device = config.data, config.out, device
        self._seed = config.trainer.seed
        self._folders = SceneFolders(config.data.textures, config.data.rgbd)
        self._settings = RenderSettings(
            planes=max(config.trainer.batch.planes[1], MEASURED_PLANES),
            asymmetry=config.data.asymmetry,
            textureless=config.data.textureless,
            blur_range=config.data.blur_range or RenderSettings.blur_range,
        )
        self._textures = read_images(list(config.data.textures))
        self._source = config.data.source
        if self._source == 'auto':
            self._source = 'generated' if device.type == 'cuda' else 'pool'

    def describe(self) -> dict[str, Any]:
        """Return the parameters of the rendered stacks, for checkpoint and manifest."""
        count = {'stacks': self._config.stacks}
        if self._source == 'generated':
            count = {'indoor_views': self._config.views, 'reuse': self._config.reuse}
        folders = self._folders.describe()
        return {'source': self._source, **count, **folders, 'render': asdict(self._settings)}

    def render(self) -> None:
        """Render the missing files of the run."""
        if self._source == 'pool':
            self._training_pool()
            self._held_out_pool()
        else:
            self._training_views()
            self._held_out_views()

    def held_out(self) -> list[TrainingStack]:
        """Return the held-out stacks."""
        if self._source == 'pool':
            return [to_stack(stack, self._device) for stack in self._held_out_pool()]
        rng = np.random.default_rng(self._seed + HELD_OUT_SEED)
        return self._generator(self._held_out_views()).render(rng, self._config.held_out)

    def batches(self, config: BatchConfig, rank: int) -> BatchSource:
        """Return the source of batches of one process."""
        if self._source == 'pool':
            return PoolSource(self._training_pool(), config, self._seed, rank, self._device)
        generator = self._generator(self._training_views())
        return GeneratedSource(generator, config, self._seed, rank, reuse=self._config.reuse)

    def _training_pool(self) -> list[RenderedStack]:
        return self._pool(self._out / 'stacks', self._config.stacks, self._seed)

    def _held_out_pool(self) -> list[RenderedStack]:
        seed = self._seed + HELD_OUT_SEED
        return self._pool(self._out / 'held_out', self._config.held_out, seed)

    def _pool(self, folder: Path, count: int, seed: int) -> list[RenderedStack]:
        return render_pool(
            folder,
            count,
            seed,
            self._folders,
            self._config.workers,
            self._settings,
            self._config.image_size,
        )

    def _training_views(self) -> list[RgbdSample]:
        return self._views(self._out / 'views', self._config.views, self._seed)

    def _held_out_views(self) -> list[RgbdSample]:
        seed, count = self._seed + HELD_OUT_SEED, max(self._config.held_out // 3, 1)
        return self._views(self._out / 'held_out_views', count, seed)

    def _views(self, folder: Path, count: int, seed: int) -> list[RgbdSample]:
        workers, size = self._config.workers, self._config.image_size
        return render_indoor_views(folder, count, seed, workers, size)

    def _generator(self, indoor: list[RgbdSample]) -> StackGenerator:
        return StackGenerator(
            self._settings,
            self._config.image_size,
            self._device,
            textures=self._textures,
            indoor=indoor,
            rgbd=load_rgbd_views(self._folders.rgbd),
        )
