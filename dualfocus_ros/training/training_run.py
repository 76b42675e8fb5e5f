# SPDX-License-Identifier: Apache-2.0
"""Training run: render data, train or fit sigma, calibrate, measure and write the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
import json
import logging
import os
from pathlib import Path
import platform
import signal
import threading
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from dualfocus_ros import __version__
from dualfocus_ros.evaluation.metric_accumulator import unimodal_mask
from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.inference.device import describe_device, resolve_device, resolve_precision
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.models.weights import LoadedModel, load_model
from dualfocus_ros.training.distributed import DistributedContext, join_process_group
from dualfocus_ros.training.losses import ONE_SIGMA
from dualfocus_ros.training.model_adapters import ModelAdapter, make_adapter, predict_stack
from dualfocus_ros.training.sigma_fit import collect_sigma_samples, fit_sigma
from dualfocus_ros.training.stack_generator import TrainingStack
from dualfocus_ros.training.trainer import Trainer
from dualfocus_ros.training.training_config import TrainingConfig
from dualfocus_ros.training.training_data import MEASURED_PLANES, TrainingData

logger = logging.getLogger(__name__)

# Held-out stacks in the sample images.
PREVIEWS = 3


@dataclass(frozen=True)
class TrainingResult:
    """Written weights, None before the end of a run, and whether a signal stopped it."""

    weights: Path | None = None
    interrupted: bool = False


class _StoppedError(Exception): ...


@contextmanager
def catch_stop() -> Iterator[list[int]]:
    """Yield a list that receives Ctrl-C or SIGTERM; a second signal has its previous handler."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # has no signals
        yield received
        return
    before = {int(n): signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_training(config: TrainingConfig) -> TrainingResult:
    """Train, or resume training; at the end calibrate, measure and write the weights.

    Under ``torchrun`` each process calls this with the same configuration.

    :raises ConfigError: for ``only_sigma`` in several processes.
    :raises ValueError: for unusable data or weights, or if the folder has a run of another
        configuration.
    :raises DeviceError: for an unavailable device or precision.
    """
    with join_process_group(config.device) as (context, device_name):
        device = resolve_device(device_name)
        if not context.is_main:
            logging.getLogger('dualfocus_ros').setLevel(logging.WARNING)
        if device.type == 'cuda':
            torch.backends.cudnn.benchmark = True
        if config.trainer.precision != 'auto':
            resolve_precision(config.trainer.precision, device)
        if config.only_sigma and context.size > 1:
            raise ConfigError('only_sigma needs one process: start it without torchrun')
        return _Run(config, context, device).execute()


class _Run:
    def __init__(
        self, config: TrainingConfig, context: DistributedContext, device: torch.device
    ) -> None:
        self._config, self._context, self._device = config, context, device
        self._adapter = make_adapter(config.network)
        self._start = load_model(config.network.start) if config.network.start else None
        self._data = TrainingData(config, device)

    def execute(self) -> TrainingResult:
        config = self._config
        if self._start is not None and config.only_sigma:
            adapter = self._adapter.for_finetuning(self._start.network)
            if not self._render():
                return TrainingResult()
            return self._fit_sigma(adapter, self._start)
        data, start = self._data.describe(), self._start
        settings = self._adapter, config.trainer, config.out, self._device
        trainer = Trainer(*settings, data=data, context=self._context, start=start)
        logger.info(
            'training %s on %s, %s, %d steps of %d stacks',
            config.network.name,
            describe_device(self._device),
            trainer.config.precision,
            config.trainer.steps,
            config.trainer.batch.size * self._context.size,
        )
        return self._train(trainer) if self._render() else TrainingResult()

    def _render(self) -> bool:
        """Render data in the first process; return whether the run continues."""
        if self._context.is_main:
            self._data.render()
        self._context.barrier()
        if self._config.render_only:
            logger.info('data rendered; a run without render-only trains')
        return not self._config.render_only

    def _train(self, trainer: Trainer) -> TrainingResult:
        held_out = self._data.held_out() if self._context.is_main else []
        source = self._data.batches(self._config.trainer.batch, self._context.rank)
        with catch_stop() as signals:
            done = trainer.run(source, held_out[:PREVIEWS], lambda: bool(signals))
        if not done:
            logger.info(
                'stopped at step %d of %d, checkpoint saved: run again with the same folder to '
                'resume',
                trainer.step,
                trainer.config.steps,
            )
            return TrainingResult(interrupted=bool(signals))
        if not self._context.is_main:
            return TrainingResult()
        facts = {
            'start': None if self._start is None else self._start.sha256,
            'steps': trainer.step,
            'minutes': round(trainer.seconds / 60.0, 1),
            'processes': self._context.size,
            'settings': asdict(trainer.config),
            'losses': trainer.adapter.describe()['loss'],
        }
        network = trainer.averaged().to(self._device)
        return self._release(trainer.adapter, network, facts, held_out)

    def _fit_sigma(self, adapter: ModelAdapter, start: LoadedModel) -> TrainingResult:
        """Fit sigma of given weights and write them; an interrupted fit writes nothing."""
        config = self._config
        source = self._data.batches(config.trainer.batch, 0)
        network, seed = start.network.to(self._device), config.trainer.seed
        with catch_stop() as signals:

            def check_stop() -> None:
                if signals:
                    raise _StoppedError

            try:
                samples = collect_sigma_samples(
                    network, source, config.sigma_batches, seed, check_stop
                )
                fit_sigma(network, samples, seed, check_stop)
            except _StoppedError:
                logger.info('stopped, nothing was written: run again to start over')
                return TrainingResult(interrupted=True)
        facts = {
            'start': start.sha256,
            'only': 'sigma',
            'batches': config.sigma_batches,
            'pixels': len(samples.error),
            'settings': {'batch': asdict(config.trainer.batch)},
        }
        return self._release(adapter, network, facts, self._data.held_out())

    def _release(
        self,
        adapter: ModelAdapter,
        network: nn.Module,
        facts: dict[str, Any],
        held_out: list[TrainingStack],
    ) -> TrainingResult:
        """Calibrate sigma on half of the held-out stacks, measure on the rest, write weights."""
        half, choice = len(held_out) // 2, self._config.network
        factor = calibrate_sigma(adapter, network, held_out[:half], MEASURED_PLANES)
        metrics, _ = evaluate_stacks(adapter, network, held_out[half:], MEASURED_PLANES)
        # Keys of the manifest format.
        recipe = {
            'configuration': choice.name,
            'without': list(choice.ablate),
            'literal': choice.paper_loss,
            'data': self._data.describe(),
            'seed': self._config.trainer.seed,
            **facts,
            'sigma_scaled_by': None if factor is None else round(factor, 4),
            'date': datetime.now(timezone.utc).date().isoformat(),
            'device': describe_device(self._device),
            'machine': f'{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs',
            'torch': torch.__version__,
            'version': __version__,
        }
        suffixes = [f'no-{part}' for part in choice.ablate] + ['paper-loss'] * choice.paper_loss
        name = self._config.weights_name or '-'.join([choice.name, *suffixes])
        path = write_release(self._config.out, name, adapter, network.cpu(), recipe, metrics)
        logger.info('wrote %s: %s', path, asdict(metrics))
        return TrainingResult(weights=path)


@dataclass(frozen=True)
class SyntheticMetrics:
    """Metrics on held-out rendered stacks; errors as shares of the sweep in inverse depth."""

    stacks: int
    planes: int
    mean_absolute_error: float
    median_absolute_error: float
    within_one_sigma: float
    unimodal: float


def evaluate_stacks(
    adapter: ModelAdapter, network: nn.Module, stacks: Iterable[TrainingStack], planes: int
) -> tuple[SyntheticMetrics, np.ndarray]:
    """Measure a network on complete stacks of ``planes`` evenly spaced planes.

    :param network: in evaluation mode, on the device of the stacks.
    :returns: metrics, and |error| / sigma of each pixel within the sweep.
    """
    errors, ratios, single_peak = [], [], []
    for stack in stacks:
        chosen, position, sigma, probability = predict_stack(adapter, network, stack, planes)
        truth = stack.truth.cpu().numpy()
        low, high = stack.focus[chosen[[0, -1]]]
        # Excludes unknown truth (NaN).
        inside = (truth >= low) & (truth <= high)
        error = np.abs(position - truth)[inside]
        errors.append(error / (high - low))
        ratios.append(error / sigma[inside])
        single_peak.append(unimodal_mask(probability)[inside])
    error_values, ratio_values = np.concatenate(errors), np.concatenate(ratios)
    metrics = SyntheticMetrics(
        stacks=len(errors),
        planes=planes,
        mean_absolute_error=round(float(error_values.mean()), 5),
        median_absolute_error=round(float(np.median(error_values)), 5),
        within_one_sigma=round(float((ratio_values < 1.0).mean()), 4),
        unimodal=round(float(np.concatenate(single_peak).mean()), 4),
    )
    return metrics, ratio_values


def calibrate_sigma(
    adapter: ModelAdapter, network: nn.Module, stacks: Sequence[TrainingStack], planes: int
) -> float | None:
    """Scale sigma to be above 68 % of the errors; return the factor, None without own sigma."""
    _, ratios = evaluate_stacks(adapter, network, stacks, planes)
    factor = float(np.quantile(ratios, ONE_SIGMA))
    return factor if adapter.scale_sigma(network, factor) else None


def write_release(
    folder: Path,
    name: str,
    adapter: ModelAdapter,
    network: nn.Module,
    recipe: dict[str, Any],
    metrics: SyntheticMetrics,
) -> Path:
    """Write the weights file and its entry in the manifest; return the file."""
    file = folder / f'{name}.safetensors'
    digest = adapter.save(file, network)
    manifest = folder / 'manifest.json'
    content = json.loads(manifest.read_text()) if manifest.exists() else {'models': {}}
    content['models'][name] = {
        'file': file.name,
        'sha256': digest,
        'parameters': sum(p.numel() for p in network.parameters()),
        'recipe': recipe,
        'held_out_rendered_stacks': asdict(metrics),
    }
    write_text(manifest, json.dumps(content, indent=2) + '\n')
    return file
