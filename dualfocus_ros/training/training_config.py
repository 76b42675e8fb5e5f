# SPDX-License-Identifier: Apache-2.0
"""Configuration of a training run. Imports no torch, so that command-line help is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
import os
from pathlib import Path

from dualfocus_ros.exceptions import ConfigError

ABLATIONS = ('spatial', 'focal', 'projection')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
SOURCES = ('auto', 'pool', 'generated')
MAX_PLANES = 32
MIN_CROP = 32  # pixels


@dataclass(frozen=True)
class NetworkConfig:
    """Network and loss.

    :param name: ``dualfocus-lite``, ``dualfocus``, ``dualfocus-paper`` or ``dfv`` (a baseline).
    :param ablate: parts to leave out: ``spatial`` (constraint), ``focal`` (constraint) or
        ``projection`` (with the spatial constraint).
    :param paper_loss: the published loss: beta 1, sums over pixels, no temperature.
    :param beta: of smooth-L1, as a fraction of the sweep range; None is the default of the loss.
    :param start: initial weights, a shipped name or a ``.safetensors`` file; None is random.
    """

    name: str = 'dualfocus-lite'
    ablate: tuple[str, ...] = ()
    paper_loss: bool = False
    beta: float | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        if unknown := ', '.join(sorted(set(self.ablate) - set(ABLATIONS))):
            raise ConfigError(f'ablate must be some of {", ".join(ABLATIONS)}, got {unknown}')
        if self.beta is not None:
            _check_positive('beta', self.beta)


@dataclass(frozen=True)
class DataConfig:
    """Rendered focal stacks to train on.

    :param source: ``pool`` renders by CPU processes before training, ``generated`` on the training
        device during training; ``auto`` is ``generated`` on CUDA and ``pool`` elsewhere.
    :param textures: folders of images as textures; none: procedural textures only.
    :param rgbd: folders of colour and depth images, the scenes of a quarter of the stacks.
    :param image_size: side of the rendered images in pixels.
    :param stacks: focal stacks of the pool.
    :param views: indoor views rendered before training on generated data.
    :param reuse: crops of each generated stack on average.
    :param held_out: stacks to calibrate sigma and to measure errors on, not trained on.
    :param blur_range: blur diameters in pixels, minimum and maximum, of the nearest point of a
        scene with the farthest in focus; None: from a camera module to a fast lens.
    :param asymmetry: share of stacks with different blur on both sides of focus.
    :param textureless: share of random surfaces without texture.
    :param workers: processes that render before training.
    """

    source: str = 'auto'
    textures: tuple[Path, ...] = ()
    rgbd: tuple[Path, ...] = ()
    image_size: int = 256
    stacks: int = 1200
    views: int = 200
    reuse: int = 4
    held_out: int = 48
    blur_range: tuple[float, float] | None = None
    asymmetry: float = 0.0
    textureless: float = 0.0
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        _check_choice('source', self.source, SOURCES)
        _check_minimum(self, MIN_CROP, 'image_size')
        _check_minimum(self, 1, 'stacks', 'views', 'reuse', 'workers')
        _check_minimum(self, 2, 'held_out')
        low, high = self.blur_range or (1.0, 2.0)
        if not 0.0 < low < high:
            raise ConfigError(
                f'blur_range must be two diameters above 0, minimum first, got {low} {high}'
            )
        for name in ('asymmetry', 'textureless'):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f'{name} must be a share from 0 to 1, got {value}')


@dataclass(frozen=True)
class BatchConfig:
    """Stacks per step and process, side of the crops in pixels, and range of planes per stack."""

    size: int = 4
    crop: int = 160
    planes: tuple[int, int] = (3, 10)

    def __post_init__(self) -> None:
        _check_minimum(self, 1, 'size')
        _check_minimum(self, MIN_CROP, 'crop')
        low, high = self.planes
        if not 2 <= low <= high <= MAX_PLANES:
            raise ConfigError(
                f'planes must be 2 <= minimum <= maximum <= {MAX_PLANES}, got {low} {high}'
            )


@dataclass(frozen=True)
class TrainerConfig:
    """Batches, schedule and optimiser.

    :param steps: steps of the whole schedule; the learning rate falls towards its end.
    :param max_minutes: training time of the whole schedule over all resumed runs; 0 is no limit.
        The learning rate follows the time where it is ahead of the steps.
    :param window_minutes: time until this run stops with a checkpoint, to be resumed; 0 is no
        limit. It does not change the result.
    :param learning_rate: maximum learning rate of AdamW, after a linear warm-up.
    :param ema_decay: decay per step of the exponential moving average of the weights.
    :param precision: of the convolutions: fp32, bf16, fp16, or auto (fp32 on a CPU, bf16 or else
        fp16 on CUDA). Losses and the projection are in fp32.
    :param checkpoint_every: steps, as ``log_every`` and ``sample_every``; 0 is no sample images.
    """

    steps: int = 20000
    max_minutes: float = 0.0
    window_minutes: float = 0.0
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = 'auto'
    checkpoint_every: int = 250
    log_every: int = 50
    sample_every: int = 500
    seed: int = 1
    batch: BatchConfig = field(default_factory=BatchConfig)

    def __post_init__(self) -> None:
        _check_minimum(self, 1, 'steps', 'warmup_steps', 'checkpoint_every', 'log_every')
        _check_minimum(self, 0, 'max_minutes', 'window_minutes', 'weight_decay', 'sample_every')
        _check_positive('learning_rate', self.learning_rate)
        _check_positive('max_gradient_norm', self.max_gradient_norm)
        if not 0.0 <= self.ema_decay < 1.0:
            raise ConfigError(f'ema_decay must be from 0 to below 1, got {self.ema_decay}')
        _check_choice('precision', self.precision, PRECISIONS)


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of :func:`dualfocus_ros.training.training_run.run_training`.

    :param out: folder of the run; a run with the same folder resumes.
    :param weights_name: name of the weights file; None: from the network and its ablations.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param only_sigma: fit sigma of ``network.start`` and leave its depth unchanged.
    :param sigma_batches: batches to fit sigma on with ``only_sigma``.
    :param render_only: render the data needed before training, and stop.
    """

    out: Path
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    weights_name: str | None = None
    device: str = 'auto'
    only_sigma: bool = False
    sigma_batches: int = 200
    render_only: bool = False

    def __post_init__(self) -> None:
        crop, size = self.trainer.batch.crop, self.data.image_size
        if crop > size:
            raise ConfigError(f'crop must be at most the image size of {size} pixels, got {crop}')
        _check_minimum(self, 1, 'sigma_batches')
        if not self.only_sigma:
            return
        if self.network.start is None:
            raise ConfigError(
                'start is needed to fit sigma: give a shipped name or a .safetensors file'
            )
        for name in ('max_minutes', 'window_minutes'):
            if minutes := getattr(self.trainer, name):
                raise ConfigError(f'{name} must be 0 to fit sigma, got {minutes}')


def _check_minimum(config: object, minimum: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= minimum:
            raise ConfigError(f'{name} must be at least {minimum}, got {value}')


def _check_positive(name: str, value: float) -> None:
    if not value > 0.0:
        raise ConfigError(f'{name} must be positive, got {value}')


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
