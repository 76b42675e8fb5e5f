# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumable at any step, limited by steps and by minutes."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field
import logging
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dualfocus_ros.data.rendered_stacks import RenderedStack
from dualfocus_ros.network.losses import LossWeights, total_loss
from dualfocus_ros.network.model import DualFocus, DualFocusConfig
from dualfocus_ros.training.batches import Batch, BatchSettings, draw_batch
from dualfocus_ros.training.checkpoint import load_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings:
    """How to train. ``max_minutes`` counts training time over all resumed runs; 0 is no limit."""

    steps: int = 20000
    max_minutes: float = 0.0
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.998
    checkpoint_every: int = 250
    seed: int = 1
    batch: BatchSettings = field(default_factory=BatchSettings)
    loss: LossWeights = field(default_factory=LossWeights)


class Trainer:
    """Trains one network in a run folder that holds its checkpoint and its log."""

    def __init__(
        self,
        config: DualFocusConfig,
        settings: TrainSettings,
        folder: Path,
        device: torch.device,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.folder = folder
        self.device = device
        self.model = DualFocus(config).to(device)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        self.rng = np.random.default_rng(settings.seed)
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / 'checkpoint.safetensors'
        if self.checkpoint.exists():
            meta = load_checkpoint(self.checkpoint, self.model, self.average, self.optimiser)
            self.step, self.seconds = meta['step'], meta['seconds']
            self.rng.bit_generator.state = meta['rng']
            logger.info('resumed at step %d after %.1f min', self.step, self.seconds / 60)

    @property
    def progress(self) -> float:
        """Share of the planned training that is done, in steps or in time, whichever is more."""
        limit = self.settings.max_minutes * 60.0
        by_time = self.seconds / limit if limit > 0.0 else 0.0
        return max(self.step / self.settings.steps, by_time)

    def run(self, pool: list[RenderedStack]) -> DualFocus:
        """Train until the plan is done; return the averaged network in evaluation mode."""
        log_path = self.folder / 'log.csv'
        fresh = not log_path.exists()
        with log_path.open('a', newline='') as log_file, tqdm(
            initial=self.step, total=self.settings.steps, unit='step', mininterval=5.0
        ) as bar:
            writer = csv.writer(log_file)
            recent: list[dict[str, float]] = []
            while self.progress < 1.0:
                began = time.monotonic()
                recent.append(self._train_step(draw_batch(self.rng, pool, self.settings.batch)))
                self.seconds += time.monotonic() - began
                bar.update()
                if self.step % 50 == 0:
                    means = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]}
                    if fresh:
                        writer.writerow(['step', 'minutes', *means])
                        fresh = False
                    writer.writerow(
                        [self.step, f'{self.seconds / 60:.2f}']
                        + [f'{value:.5f}' for value in means.values()]
                    )
                    log_file.flush()
                    bar.set_postfix(error=f'{means["error"]:.4f}', lr=f'{self._rate():.1e}')
                    recent.clear()
                if self.step % self.settings.checkpoint_every == 0:
                    self.save()
        self.save()
        return self.averaged()

    def averaged(self) -> DualFocus:
        """Return a copy with the exponential moving average of the weights, for inference."""
        model = DualFocus(self.model.config)
        model.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        meta: dict[str, Any] = {
            'step': self.step,
            'seconds': self.seconds,
            'rng': self.rng.bit_generator.state,
            'settings': asdict(self.settings),
            'config': asdict(self.model.config),
        }
        save_checkpoint(self.checkpoint, self.model, self.average, self.optimiser, meta)

    def _rate(self) -> float:
        """Cosine decay over the plan after a linear warm-up."""
        rate = 0.5 * (1.0 + math.cos(math.pi * min(self.progress, 1.0)))
        warm = min(1.0, (self.step + 1) / self.settings.warmup)
        return self.settings.learning_rate * warm * max(rate, 0.01)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group['lr'] = self._rate()
        self.model.train()
        images, focus, truth = (
            t.to(self.device) for t in (batch.images, batch.focus, batch.truth)
        )
        prediction = self.model(images, focus)
        valid = torch.isfinite(truth)
        loss, terms = total_loss(prediction, focus, truth, valid, self.settings.loss)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        # One batch of nonsense must not end hours of training.
        if torch.isfinite(norm):
            self.optimiser.step()
        else:
            logger.warning('step %d skipped: the gradient is not finite', self.step)
        self.step += 1
        self._update_average()
        return {'loss': float(loss.detach()), **{k: float(v.detach()) for k, v in terms.items()}}

    def _update_average(self) -> None:
        decay = min(self.settings.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                mean: Tensor = self.average[name]
                if mean.dtype.is_floating_point:
                    mean.lerp_(value, 1.0 - decay)
                else:
                    mean.copy_(value)
