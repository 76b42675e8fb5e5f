# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train``: train a network to a ``.safetensors`` file that the nodes load."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from dualfocus_ros.cli.arguments import add_device_argument, add_number
from dualfocus_ros.exceptions import CommandError, ConfigError, UsageError
from dualfocus_ros.training.training_config import (
    ABLATIONS,
    PRECISIONS,
    SOURCES,
    BatchConfig,
    DataConfig,
    NetworkConfig,
    TrainerConfig,
    TrainingConfig,
)

INTERRUPTED = 130
# Options of fields that have another name there.
OPTIONS = {
    'name': '--config',
    'start': '--from',
    'source': '--data',
    'blur_range': '--blur',
    'size': '--batch',
    'window_minutes': '--window',
    'sigma_batches': '--steps',
}

DESCRIPTION = """
Train a network from random or given weights to a .safetensors file for the nodes and the other
commands. The data is rendered: random textured shapes, procedural indoor views and, if given,
views with measured depth, with random lenses and sweeps.
"""
EPILOG = """
examples:
  the small network on a CPU, in two hours:
    dualfocus train -o runs/lite --textures ~/photos --max-minutes 120
  on a GPU available for 20 minutes at a time: repeat the same command. It stops after the window,
  on Ctrl-C and on SIGTERM with a checkpoint, and resumes from it; when the schedule is complete
  it writes the weights:
    dualfocus train -o runs/full --config dualfocus --batch 16 --steps 60000 --window 20
  on all GPUs of one machine:
    torchrun --nproc-per-node=4 -m dualfocus_ros train -o runs/full --config dualfocus
  fine-tuning of the shipped network on your scenes:
    dualfocus train -o runs/mine --from dualfocus-lite --rgbd ~/scans --learning-rate 2e-4
  sigma of the shipped network on your scenes:
    dualfocus train -o runs/sigma --from dualfocus-lite --only-sigma --rgbd ~/scans --crop 256
  a baseline and an ablation, with equal data, steps and schedule:
    dualfocus train -o runs/dfv --config dfv
    dualfocus train -o runs/no_focal --ablate focal

The output folder has checkpoint.safetensors, log.csv, samples/, tensorboard/ (if installed) and,
after the last step, NAME.safetensors with manifest.json. See docs/training.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        '-o',
        '--out',
        type=Path,
        required=True,
        help='output folder; a run with the same folder resumes',
    )
    parser.add_argument('--name', help='name of the weights file (default: the configuration)')
    _add_network_arguments(parser.add_argument_group('network'))
    _add_data_arguments(parser.add_argument_group('data'))
    _add_schedule_arguments(parser.add_argument_group('schedule'))
    device = parser.add_argument_group('device')
    add_device_argument(device)
    device.add_argument(
        '--precision',
        default='auto',
        choices=PRECISIONS,
        help='of the convolutions (default: bf16 or else fp16 on CUDA, fp32 on a CPU); losses and '
        'the projection are in fp32',
    )


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--config',
        default=NetworkConfig.name,
        metavar='NAME',
        help=f'{NetworkConfig.name} (default), dualfocus, dualfocus-paper, or dfv (a baseline)',
    )
    group.add_argument(
        '--ablate',
        nargs='+',
        default=[],
        choices=ABLATIONS,
        help='leave out the spatial constraint, the focal constraint, or the projection (with the '
        'spatial constraint)',
    )
    group.add_argument(
        '--paper-loss',
        action='store_true',
        help='loss as printed: beta 1, sums, sharpness weights without a temperature',
    )
    group.add_argument(
        '--beta',
        type=float,
        metavar='SHARE',
        help='smooth-L1 beta, as a fraction of the sweep range; smaller favours precision '
        '(default: 0.03)',
    )
    group.add_argument(
        '--from',
        dest='start',
        metavar='MODEL',
        help='initial weights: a shipped name or a .safetensors file of the same configuration '
        '(default: random); use a tenth of the default --learning-rate',
    )
    group.add_argument(
        '--only-sigma',
        action='store_true',
        help='fit sigma of --from to your scenes or lens and leave its depth unchanged, in some '
        'minutes; --steps is the number of batches',
    )


def _add_data_arguments(group: argparse._ArgumentGroup) -> None:
    defaults, batch = DataConfig(), BatchConfig()
    group.add_argument(
        '--data',
        choices=SOURCES,
        default=defaults.source,
        help='pool: rendered on CPUs before training; generated: rendered on the training device '
        'during training (default: generated on CUDA, else pool)',
    )
    for flag, text in (
        ('--textures', 'folders of images as textures (default: procedural textures only)'),
        ('--rgbd', 'folders of colour and depth images, the scenes of a quarter of the stacks'),
    ):
        group.add_argument(flag, type=Path, nargs='*', default=[], metavar='FOLDER', help=text)
    for flag, metavar, default, text in (
        ('--image-size', 'PIXELS', defaults.image_size, 'side of the rendered images'),
        ('--stacks', 'N', defaults.stacks, 'focal stacks of the pool'),
        ('--views', 'N', defaults.views, 'indoor views for generated data'),
        (
            '--reuse',
            'CROPS',
            defaults.reuse,
            'crops of each generated stack on average; raise it if training waits for data',
        ),
        ('--held-out', 'N', defaults.held_out, 'stacks to calibrate sigma and to measure on'),
        (
            '--asymmetry',
            'SHARE',
            defaults.asymmetry,
            'share of stacks with different blur on both sides of focus',
        ),
        (
            '--textureless',
            'SHARE',
            defaults.textureless,
            'share of random surfaces without texture, such as walls',
        ),
    ):
        add_number(group, flag, metavar, default, text)
    group.add_argument(
        '--planes',
        type=int,
        nargs=2,
        default=batch.planes,
        metavar=('MIN', 'MAX'),
        help=f'planes per stack in training (default: {batch.planes[0]} {batch.planes[1]})',
    )
    group.add_argument(
        '--blur',
        type=float,
        nargs=2,
        metavar=('MIN', 'MAX'),
        help='blur diameter in pixels of the nearest point of a scene with the farthest in focus '
        '(default: from a camera module to a fast lens)',
    )
    group.add_argument(
        '--workers',
        type=int,
        default=defaults.workers,
        metavar='N',
        help='processes that render before training (default: one per CPU)',
    )
    group.add_argument(
        '--render-only',
        action='store_true',
        help='render the data needed before training, and stop; needs no GPU',
    )


def _add_schedule_arguments(group: argparse._ArgumentGroup) -> None:
    defaults, batch = TrainerConfig(), BatchConfig()
    group.add_argument(
        '--steps',
        type=int,
        metavar='N',
        help=f'steps of the whole schedule (default: {defaults.steps}; with --only-sigma '
        f'{TrainingConfig.sigma_batches})',
    )
    for flag, metavar, default, text in (
        (
            '--max-minutes',
            'MINUTES',
            defaults.max_minutes,
            'training time of the whole schedule over all resumed runs; 0: no limit',
        ),
        (
            '--window',
            'MINUTES',
            defaults.window_minutes,
            'stop this run after this time, to resume later with the same result; 0: no limit',
        ),
        ('--batch', 'N', batch.size, 'stacks per step and process'),
        ('--crop', 'PIXELS', batch.crop, 'side of training crops'),
        ('--learning-rate', 'RATE', defaults.learning_rate, 'maximum learning rate'),
        ('--seed', 'N', defaults.seed, 'seed of weights and data'),
        ('--sample-every', 'STEPS', defaults.sample_every, 'steps between sample images; 0: none'),
    ):
        add_number(group, flag, metavar, default, text)


def execute(arguments: argparse.Namespace) -> int:
    """Train; return 0, or 130 after Ctrl-C or SIGTERM."""
    import torch

    from dualfocus_ros.training.training_run import run_training

    try:
        result = run_training(_config(arguments))
    except ConfigError as error:
        field, _, problem = str(error).partition(' ')
        option = OPTIONS.get(field) or f'--{field.replace("_", "-")}'
        raise UsageError(f'{option} {problem}') from None
    except torch.OutOfMemoryError as error:
        smaller = max(arguments.batch // 2, 1)
        raise CommandError(
            f'out of GPU memory ({str(error).splitlines()[0][:120]}): train with --batch '
            f'{smaller} or a smaller --crop, and another --out than {arguments.out} if it has a '
            'checkpoint'
        ) from None
    return INTERRUPTED if result.interrupted else 0


def _config(arguments: argparse.Namespace) -> TrainingConfig:
    """Return the configuration of the run.

    :raises ConfigError: for an invalid value.
    """
    given = vars(arguments).items()
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in given if v is not None}
    renamed = {field: values.get(option[2:]) for field, option in OPTIONS.items()}
    values['weights_name'] = arguments.name
    values |= {field: value for field, value in renamed.items() if value is not None}

    def make(kind: type, **parts: Any) -> Any:
        """Return a configuration with the given values of its fields."""
        names = {field.name for field in fields(kind)} & values.keys() - parts.keys()
        return kind(**{name: values[name] for name in names}, **parts)

    config: TrainingConfig = make(
        TrainingConfig,
        network=make(NetworkConfig),
        data=make(DataConfig),
        trainer=make(TrainerConfig, batch=make(BatchConfig)),
    )
    return config
