# SPDX-License-Identifier: Apache-2.0
"""Small network, stacks and configurations for tests of training."""

from __future__ import annotations

import torch

from dualfocus_ros.models.dualfocus_config import DualFocusConfig
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderSettings
from dualfocus_ros.training.batches import PoolSource
from dualfocus_ros.training.losses import LossWeights
from dualfocus_ros.training.model_adapters import DualFocusAdapter
from dualfocus_ros.training.training_config import BatchConfig, TrainerConfig

CPU = torch.device('cpu')
NETWORK = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)
ADAPTER = DualFocusAdapter(NETWORK, LossWeights())
BATCH = BatchConfig(size=2, crop=64, planes=(3, 5))
RENDER = RenderSettings(planes=5, blur_range=(4.0, 10.0), layers=6, wide_sweeps=0.0)


def trainer_config(steps, **changes):
    """Return a configuration of small batches without intermediate checkpoints."""
    return TrainerConfig(steps=steps, checkpoint_every=1000, batch=BATCH, **changes)


def pool_source(pool, seed=1, rank=0):
    """Return a source of small batches."""
    return PoolSource(pool, BATCH, seed, rank, CPU)


def no_autocast():
    """Return a context without mixed precision."""
    return torch.autocast('cpu', enabled=False)
