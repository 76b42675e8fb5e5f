# SPDX-License-Identifier: Apache-2.0
"""Train a network without batch norm for a few steps, in one process or in two.

    torchrun --nproc-per-node=2 train_together.py FOLDER distributed
    python train_together.py FOLDER single      batches of both processes concatenated

Writes FOLDER/RANK.safetensors: the weights, their average and batch norm's statistics.
"""

from pathlib import Path
import sys

import numpy as np
from safetensors.torch import save_file
import torch
from torch import nn

from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    render_training_stack,
)
from dualfocus_ros.training.batches import Batch, PoolSource
from dualfocus_ros.training.distributed import join_process_group
from dualfocus_ros.training.trainer import Trainer
from dualfocus_ros.training.training_config import BatchConfig, TrainerConfig

STEPS = 4
BATCH = BatchConfig(size=2, crop=48, planes=(3, 3))


class Tiny(nn.Module):
    """Network that scores each plane; its batch norm does not affect the output."""

    def __init__(self):
        super().__init__()
        self.score = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
        )
        self.statistics = nn.BatchNorm2d(3, affine=False)

    def forward(self, images, focus):
        batch, planes = focus.shape
        flat = images.flatten(0, 1)
        self.statistics(flat)
        p = self.score(flat).view(batch, planes, *images.shape[-2:]).softmax(dim=1)
        return (p * focus[..., None, None]).sum(dim=1)


class TinyAdapter:
    """Adapter of the network."""

    stride = min_batch_size = 1

    def build(self):
        return Tiny()

    def loss(self, network, batch, autocast):
        loss = (network(batch.images, batch.focus) - batch.truth).abs().mean()
        return loss, {'error': loss}

    def describe(self):
        return {'network': 'tiny'}


class ConcatenatedSource:
    """Source of the concatenated batches of several sources."""

    def __init__(self, sources):
        self.sources = sources

    def batch(self, step):
        parts = [source.batch(step) for source in self.sources]
        return Batch(*(torch.cat([getattr(p, n) for p in parts]) for n in vars(parts[0])))

    def prepare(self, step):
        pass

    def take_wait_seconds(self):
        return 0.0


def main(folder, mode):
    textures = TextureSource([])
    settings = RenderSettings(planes=3, blur_range=(4.0, 8.0), layers=4)
    pool = [
        render_training_stack(
            np.random.default_rng(i), lambda r: random_scene(r, textures, 64), settings
        )
        for i in range(3)
    ]
    with join_process_group('cpu') as (context, name):
        device = torch.device(name)
        source = PoolSource(pool, BATCH, 1, context.rank, device)
        if mode == 'single':
            source = ConcatenatedSource(
                [PoolSource(pool, BATCH, 1, rank, device) for rank in range(2)]
            )
        config = TrainerConfig(steps=STEPS, batch=BATCH, log_every=2, max_gradient_norm=0.5)
        # Both processes have the same folder; only the first may write to it.
        trainer = Trainer(TinyAdapter(), config, folder / mode, device, context=context)
        if mode == 'distributed':
            # Stop one process: both stop, and resume from the checkpoint of the first.
            calls = iter([False, False, context.rank == 1])
            assert not trainer.run(source, stop=lambda: next(calls))
            context.barrier()
            trainer = Trainer(TinyAdapter(), config, folder / mode, device, context=context)
            assert trainer.step == 2
        assert trainer.run(source)
        state = {f'weights.{n}': t for n, t in trainer.model.state_dict().items()}
        state |= {f'average.{n}': t for n, t in trainer.average.items()}
        state = {name: value.contiguous() for name, value in state.items()}
        save_file(state, folder / f'{mode}{context.rank}.safetensors')


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2])
