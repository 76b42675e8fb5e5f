# SPDX-License-Identifier: Apache-2.0
"""Training loop: resumable at any step, limited by steps and by minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
import logging
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dualfocus_ros.models.weights import LoadedModel
from dualfocus_ros.training.batches import BatchSource
from dualfocus_ros.training.checkpoint import load_checkpoint, save_checkpoint
from dualfocus_ros.training.distributed import DistributedContext
from dualfocus_ros.training.model_adapters import ModelAdapter
from dualfocus_ros.training.run_log import RunLog, gpu_usage, render_sample_image
from dualfocus_ros.training.stack_generator import TrainingStack
from dualfocus_ros.training.training_config import TrainerConfig

logger = logging.getLogger(__name__)

# Fields that may change on resuming: they affect the length and files of a run, not its steps.
RESUMABLE_CHANGES = {'steps', 'max_minutes', 'window_minutes'}
RESUMABLE_CHANGES |= {'checkpoint_every', 'log_every', 'sample_every'}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class Trainer:
    """Training of one network in a folder with its checkpoint and log.

    :param data: description of the data, compared with that of the checkpoint.
    :param start: initial weights; None: random.
    :raises ValueError: for a checkpoint of another training, or weights that do not fit.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        config: TrainerConfig,
        folder: Path,
        device: torch.device,
        *,
        data: dict[str, Any] | None = None,
        context: DistributedContext | None = None,
        start: LoadedModel | None = None,
    ) -> None:
        if config.batch.crop % adapter.stride:
            raise ValueError(
                f'crops must be multiples of {adapter.stride} pixels for this network, '
                f'got {config.batch.crop}'
            )
        least, size = adapter.min_batch_size, config.batch.size
        if size < least:
            raise ValueError(
                f'this network trains on {least} or more stacks per step and process, got {size}'
            )
        if start is not None:
            adapter = adapter.for_finetuning(start.network)
        if config.precision == 'auto':
            precision = 'fp32'
            if device.type == 'cuda':  # older GPUs only emulate bfloat16
                precision = 'bf16' if torch.cuda.get_device_capability(device)[0] >= 8 else 'fp16'
            config = replace(config, precision=precision)
        torch.manual_seed(config.seed)
        self.adapter, self.config, self.folder, self.device = adapter, config, folder, device
        self.context = context or DistributedContext()
        self.model = adapter.build()
        if start is not None:
            self.model.load_state_dict(start.network.state_dict())
        self.model.to(device)
        for parameter in self.model.parameters():
            if parameter.dim() == 4:  # 2-D convolutions: fastest on GPUs and in oneDNN
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        self._dtype = DTYPES[config.precision]
        scaled = self._dtype is torch.float16
        self.gradient_scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        fixed = {k: v for k, v in asdict(config).items() if k not in RESUMABLE_CHANGES}
        self._plan = adapter.describe() | {'data': data, 'processes': self.context.size, **fixed}
        if start is not None:
            self._plan['start'] = start.sha256
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / 'checkpoint.safetensors'
        if self.checkpoint.exists():
            state = self.model, self.average, self.optimiser
            meta = load_checkpoint(self.checkpoint, *state, self._plan)
            self.gradient_scaler.load_state_dict(meta['scaler'])
            self.step, self.seconds = meta['step'], meta['seconds']
            logger.info('resumed at step %d after %.1f min', self.step, self.seconds / 60)
        self._network = self.context.wrap(self.model)

    @property
    def progress(self) -> float:
        """Completed share of the schedule, the maximum of steps and time."""
        limit = self.config.max_minutes * 60.0
        by_time = self.seconds / limit if limit > 0.0 else 0.0
        return max(self.step / self.config.steps, by_time)

    def run(
        self,
        source: BatchSource,
        previews: Sequence[TrainingStack] = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end of the schedule or of the window, or until ``stop`` returns True.

        :param previews: stacks for sample images.
        :returns: whether the schedule is complete.
        """
        began = time.monotonic()
        config = self.config
        silent = not (self.context.is_main and logger.isEnabledFor(logging.INFO))
        options: dict[str, Any] = {'unit': 'step', 'mininterval': 5.0, 'disable': silent}
        logging_to = RunLog(self.folder, self.step) if self.context.is_main else nullcontext()
        with logging_to as log, tqdm(initial=self.step, total=config.steps, **options) as bar:
            averages = _LogAverages(self)
            while True:
                window_over = 0.0 < 60.0 * config.window_minutes <= time.monotonic() - began
                halt, self.seconds = self.context.sync_stop(stop() or window_over, self.seconds)
                done = self.progress >= 1.0
                if done or halt:
                    break
                before = time.monotonic()
                averages.add(self._train_step(source))
                self.seconds += time.monotonic() - before
                bar.update()
                if self.step % config.log_every == 0:
                    values = averages.take(source.take_wait_seconds())
                    if log is not None:
                        log.write(self.step, values)
                    bar.set_postfix(_progress_fields(values, self.progress))
                if self.step % config.checkpoint_every == 0:
                    self.save()
                due = config.sample_every and self.step % config.sample_every == 0
                if log is not None and previews and due:
                    network = self.averaged().to(self.device)
                    image = render_sample_image(self.adapter, network, previews, self.step)
                    log.write_image(self.step, image)
            self.save()
        return done

    def averaged(self) -> nn.Module:
        """Return a network with the exponential moving average of the weights, on the CPU."""
        with torch.random.fork_rng(devices=[]):  # building draws random weights
            model = self.adapter.build()
        model.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return model.eval()

    def save(self) -> None:
        if not self.context.is_main:
            return
        meta: dict[str, Any] = {'step': self.step, 'seconds': self.seconds, 'plan': self._plan}
        meta['scaler'] = self.gradient_scaler.state_dict()
        save_checkpoint(self.checkpoint, self.model, self.average, self.optimiser, meta)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then cosine decay over the schedule."""
        decay = 0.5 * (1.0 + math.cos(math.pi * min(self.progress, 1.0)))
        warmup = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warmup * max(decay, 0.01)

    def autocast(self) -> torch.autocast:
        mixed = self._dtype is not torch.float32
        return torch.autocast(self.device.type, self._dtype if mixed else None, enabled=mixed)

    def _train_step(self, source: BatchSource) -> dict[str, Tensor]:
        """Take one step; return the loss and its terms, nothing if the step was skipped."""
        for group in self.optimiser.param_groups:
            group['lr'] = self.learning_rate
        self.model.train()
        loss, terms = self.adapter.loss(self._network, source.batch(self.step), self.autocast)
        self.optimiser.zero_grad(set_to_none=True)
        self.gradient_scaler.scale(loss).backward()
        # CUDA renders the next stacks while it computes this gradient.
        source.prepare(self.step + 1)
        self.gradient_scaler.unscale_(self.optimiser)
        limit = self.config.max_gradient_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        # Skip the step if gradients are not finite.
        finite = bool(torch.isfinite(norm))
        if finite:
            self.gradient_scaler.step(self.optimiser)
        else:
            # Expected with fp16 when its loss scale is too large.
            level = logging.DEBUG if self.gradient_scaler.is_enabled() else logging.WARNING
            logger.log(level, 'step %d skipped: the gradient is not finite', self.step)
            # Replace running statistics that are not finite by their average.
            for name, value in self.model.named_buffers():
                if name in self.average and not bool(torch.isfinite(value).all()):
                    value.copy_(self.average[name])
        self.gradient_scaler.update()
        self.step += 1
        self.context.average_buffers(self.model)
        self._update_average()
        terms = {'loss': loss, **terms}
        return {name: term.detach() for name, term in terms.items()} if finite else {}

    def _update_average(self) -> None:
        """Update the exponential moving average; its decay rises over the first steps."""
        decay = min(self.config.ema_decay, (1.0 + self.step) / (10.0 + self.step))
        floating = [n for n, t in self.average.items() if t.dtype.is_floating_point]
        state = self.model.state_dict()
        with torch.no_grad():
            averages = [self.average[n] for n in floating]
            torch._foreach_lerp_(averages, [state[n] for n in floating], 1.0 - decay)
            for name in self.average.keys() - set(floating):
                self.average[name].copy_(state[name])


class _LogAverages:
    """Means of the loss terms, and speed, over the steps since the last row of the log."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._began, self._step = time.monotonic(), self._trainer.step

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of a step, without synchronising the device."""
        self._count += bool(terms)
        for name, value in terms.items():
            self._sums[name] = value + self._sums.get(name, 0.0)

    def take(self, wait_seconds: float) -> dict[str, float]:
        """Return the values of a row of the log, and reset."""
        trainer = self._trainer
        means = {n: float(total) / max(self._count, 1) for n, total in self._sums.items()}
        elapsed = max(time.monotonic() - self._began, 1e-9)
        stacks = trainer.config.batch.size * trainer.context.size
        speed = (trainer.step - self._step) * stacks / elapsed
        self._restart()
        return {
            'minutes': trainer.seconds / 60.0,
            **means,
            'learning_rate': trainer.learning_rate,
            'samples_per_second': speed,
            'waiting_for_data': wait_seconds / elapsed,
            **gpu_usage(trainer.device),
        }


def _progress_fields(values: dict[str, float], progress: float) -> dict[str, str]:
    """Return the fields of the progress bar; the time left is extrapolated from the progress."""
    shown = {
        'error': f'{values.get("error", math.nan):.4f}',
        'lr': f'{values["learning_rate"]:.1e}',
        'samples/s': f'{values["samples_per_second"]:.1f}',
        'waiting': f'{values["waiting_for_data"]:.0%}',
    }
    if 'gpu_memory_gib' in values:
        use = '' if math.isnan(values['gpu_use']) else f'{values["gpu_use"]:.0f}% '
        shown['gpu'] = f'{use}{values["gpu_memory_gib"]:.1f}GiB'
    share = max(progress, 1e-9)
    return {**shown, 'left': f'{values["minutes"] * (1.0 - share) / share:.0f}min'}
