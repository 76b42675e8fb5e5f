# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumable at any step, limited by steps and by minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
import logging
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dualfocus_ros.models.weights import LoadedModel
from dualfocus_ros.training.batch_sources import BatchSource
from dualfocus_ros.training.batches import Batch, BatchConfig, TrainingStack
from dualfocus_ros.training.checkpoint import (
    check_plan,
    load_checkpoint,
    read_meta,
    save_checkpoint,
)
from dualfocus_ros.training.distributed import DistributedContext
from dualfocus_ros.training.model_adapters import ModelAdapter
from dualfocus_ros.training.run_log import RunLog, gpu_usage
from dualfocus_ros.training.sample_images import render_sample_image

logger = logging.getLogger(__name__)

# These may differ when a run goes on: how long it takes and what it writes, not what it does.
RESUMABLE_CHANGES = (
    'steps',
    'max_minutes',
    'window',
    'checkpoint_every',
    'log_every',
    'sample_every',
)


@dataclass(frozen=True)
class TrainerConfig:
    """How to train.

    :param steps: of the whole plan; the learning rate falls towards its end.
    :param max_minutes: training time of the whole plan, over all resumed runs; 0 is no limit.
        The learning rate then follows the clock where that is ahead of the steps.
    :param window: minutes after which this run stops with a checkpoint; 0 is no limit. It does
        not change what is trained.
    :param average: decay of the exponential moving average of the weights.
    :param precision: of the convolutions: fp32, bf16 or fp16.
    """

    steps: int = 20000
    max_minutes: float = 0.0
    window: float = 0.0
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.999
    precision: str = 'fp32'
    checkpoint_every: int = 250
    log_every: int = 50
    sample_every: int = 500
    seed: int = 1
    batch: BatchConfig = field(default_factory=BatchConfig)


class Trainer:
    """Trains one network in a run folder that holds its checkpoint and its log.

    :param data: what the batches are made from, in words and numbers, for the checkpoint.
    :param start: the weights to begin with; random ones by default.
    :raises ValueError: if the folder holds a checkpoint of another training, or the weights to
        begin with are of another network.
    """

    def __init__(
        self,
        kind: ModelAdapter,
        settings: TrainerConfig,
        folder: Path,
        device: torch.device,
        *,
        data: dict[str, Any] | None = None,
        team: DistributedContext | None = None,
        start: LoadedModel | None = None,
    ) -> None:
        if settings.batch.crop % kind.stride:
            raise ValueError(
                f'crops must be multiples of {kind.stride} pixels for this network, '
                f'got {settings.batch.crop}'
            )
        if settings.batch.size < kind.min_batch_size:
            raise ValueError(
                f'this network trains on {kind.min_batch_size} or more stacks per step and '
                f'process, got {settings.batch.size}'
            )
        if start is not None:
            kind = kind.for_finetuning(start.network)
        torch.manual_seed(settings.seed)
        self.kind, self.settings, self.folder, self.device = kind, settings, folder, device
        self.team = team or DistributedContext()
        self.model = kind.build()
        if start is not None:
            self.model.load_state_dict(start.network.state_dict())
        self.model.to(device)
        _to_channels_last(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
        self._dtype = dtype[settings.precision]
        scaled = self._dtype is torch.float16
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        plan = {k: v for k, v in asdict(settings).items() if k not in RESUMABLE_CHANGES}
        self._plan = {**kind.describe(), 'data': data, 'processes': self.team.size, **plan}
        self.start_sha256 = None if start is None else start.sha256
        if start is not None:
            self._plan['start'] = self.start_sha256
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / 'checkpoint.safetensors'
        if self.checkpoint.exists():
            self._resume()
        self._network = self.team.wrap(self.model)

    @property
    def progress(self) -> float:
        """Share of the planned training that is done, in steps or in time, whichever is more."""
        limit = self.settings.max_minutes * 60.0
        by_time = self.seconds / limit if limit > 0.0 else 0.0
        return max(self.step / self.settings.steps, by_time)

    def run(
        self,
        source: BatchSource,
        preview: Sequence[TrainingStack] = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the plan is done, the window is over, or ``stop`` says so.

        :param preview: stacks for sample pictures.
        :returns: whether the plan is done.
        """
        began = time.monotonic()
        settings = self.settings
        with (
            RunLog(self.folder, self.step) if self.team.is_main else _NoLog() as log,
            tqdm(
                initial=self.step,
                total=settings.steps,
                unit='step',
                mininterval=5.0,
                disable=not (self.team.is_main and logger.isEnabledFor(logging.INFO)),
            ) as bar,
        ):
            meter = _Meter(self)
            done = False
            while True:
                window_over = 0.0 < 60.0 * settings.window <= time.monotonic() - began
                halt, self.seconds = self.team.agree(stop() or window_over, self.seconds)
                done = self.progress >= 1.0
                if done or halt:
                    break
                before = time.monotonic()
                meter.add(self._train_step(source))
                self.seconds += time.monotonic() - before
                bar.update()
                if self.step % settings.log_every == 0:
                    values = meter.read(source.waited())
                    log.write(self.step, values)
                    bar.set_postfix(_short(values, self._minutes_left()))
                if self.step % settings.checkpoint_every == 0:
                    self.save()
                if preview and self.team.is_main and self.step % settings.sample_every == 0:
                    network = self.averaged().to(self.device)
                    log.picture(
                        self.step, render_sample_image(self.kind, network, preview, self.step)
                    )
            self.save()
        return done

    def averaged(self) -> nn.Module:
        """Return a copy with the exponential moving average of the weights, for inference."""
        with torch.random.fork_rng(devices=[]):  # building draws weights that are not used
            model = self.kind.build()
        model.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        if not self.team.is_main:
            return
        meta: dict[str, Any] = {
            'step': self.step,
            'seconds': self.seconds,
            'plan': self._plan,
            'scaler': self._scaler.state_dict(),
        }
        save_checkpoint(self.checkpoint, self.model, self.average, self.optimiser, meta)

    def _resume(self) -> None:
        meta = read_meta(self.checkpoint)
        check_plan(self.checkpoint, meta.get('plan', {}), self._plan)
        load_checkpoint(self.checkpoint, self.model, self.average, self.optimiser)
        self._scaler.load_state_dict(meta['scaler'])
        self.step, self.seconds = meta['step'], meta['seconds']
        logger.info('resumed at step %d after %.1f min', self.step, self.seconds / 60)

    def _rate(self) -> float:
        """Cosine decay over the plan after a linear warm-up."""
        rate = 0.5 * (1.0 + math.cos(math.pi * min(self.progress, 1.0)))
        warm = min(1.0, (self.step + 1) / self.settings.warmup)
        return self.settings.learning_rate * warm * max(rate, 0.01)

    def _minutes_left(self) -> float:
        """Estimate from the share of the plan, in steps or time, that a minute takes."""
        share = max(self.progress, 1e-9)
        return self.seconds / 60.0 * (1.0 - share) / share

    def _train_step(self, source: BatchSource) -> dict[str, Tensor]:
        """Take a step; returns the terms of the loss, nothing if it was skipped."""
        for group in self.optimiser.param_groups:
            group['lr'] = self._rate()
        self.model.train()
        batch: Batch = source.batch(self.step)
        loss, terms = self.kind.loss(self._network, batch, self._autocast)
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        # On a GPU the next stacks are rendered while it still computes this gradient.
        source.prepare(self.step + 1)
        self._scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        # One batch of nonsense must not end hours of training.
        finite = bool(torch.isfinite(norm))
        if finite:
            self._scaler.step(self.optimiser)
        else:
            # With fp16 the scale is too large now and then, which is no nonsense.
            level = logging.DEBUG if self._scaler.is_enabled() else logging.WARNING
            logger.log(level, 'step %d skipped: the gradient is not finite', self.step)
            self._mend_buffers()
        self._scaler.update()
        self.step += 1
        self.team.average_buffers(self.model)
        self._update_average()
        terms = {'loss': loss, **terms}
        return {name: term.detach() for name, term in terms.items()} if finite else {}

    def _autocast(self) -> torch.autocast:
        mixed = self._dtype is not torch.float32
        return torch.autocast(self.device.type, self._dtype if mixed else None, enabled=mixed)

    def _mend_buffers(self) -> None:
        """Undo what nonsense did to the running statistics of batch norm."""
        for name, value in self.model.named_buffers():
            if name in self.average and not bool(torch.isfinite(value).all()):
                value.copy_(self.average[name])

    def _update_average(self) -> None:
        decay = min(self.settings.average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            floating = [n for n, t in self.average.items() if t.dtype.is_floating_point]
            state = self.model.state_dict()
            torch._foreach_lerp_(
                [self.average[n] for n in floating], [state[n] for n in floating], 1.0 - decay
            )
            for name in self.average.keys() - set(floating):
                self.average[name].copy_(state[name])


class _Meter:
    """Means of the loss terms and the pace since the last reading."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._restart()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of a step; they stay on the device."""
        if terms:
            self._count += 1
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def read(self, waited: float) -> dict[str, float]:
        """Return what to log, and begin again."""
        trainer = self._trainer
        means = {n: float(total) / max(self._count, 1) for n, total in self._sums.items()}
        elapsed = max(time.monotonic() - self._began, 1e-9)
        steps = trainer.step - self._step
        samples = steps * trainer.settings.batch.size * trainer.team.size
        pace = {
            'learning_rate': trainer._rate(),
            'samples_per_second': samples / elapsed,
            'waiting_for_data': waited / elapsed,
        }
        self._sums, self._count = {}, 0
        self._restart()
        minutes = {'minutes': trainer.seconds / 60.0}
        return {**minutes, **means, **pace, **gpu_usage(trainer.device)}

    def _restart(self) -> None:
        self._began, self._step = time.monotonic(), self._trainer.step


class _NoLog:
    """The log of a process that does not write."""

    def __enter__(self) -> _NoLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write nothing."""

    def picture(self, step: int, image: Any) -> None:
        """Write nothing."""


def _short(values: dict[str, float], minutes_left: float) -> dict[str, str]:
    """Return what the progress bar shows."""
    shown = {
        'error': f'{values.get("error", math.nan):.4f}',
        'lr': f'{values["learning_rate"]:.1e}',
        'samples/s': f'{values["samples_per_second"]:.1f}',
        'waiting': f'{values["waiting_for_data"]:.0%}',
    }
    if 'gpu_memory_gib' in values:
        use = values['gpu_use']
        shown['gpu'] = ('' if math.isnan(use) else f'{use:.0f}% ') + (
            f'{values["gpu_memory_gib"]:.1f}GiB'
        )
    return {**shown, 'left': f'{minutes_left:.0f}min'}


def _to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of 2-D convolutions as graphics processors and oneDNN like them."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
