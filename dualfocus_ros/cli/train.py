# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train``: train a network to a ``.safetensors`` file that the nodes load."""

from __future__ import annotations

import argparse
from pathlib import Path

from dualfocus_ros.cli.model_arguments import add_device_argument
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
    _add_device_arguments(parser.add_argument_group('device'))


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    defaults = NetworkConfig()
    group.add_argument(
        '--config',
        default=defaults.name,
        metavar='NAME',
        help=f'{defaults.name} (default), dualfocus, dualfocus-paper, or dfv (a baseline)',
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
    defaults = DataConfig()
    group.add_argument(
        '--data',
        choices=SOURCES,
        default=defaults.source,
        help='pool: rendered on CPUs before training; generated: rendered on the training device '
        'during training (default: generated on CUDA, else pool)',
    )
    group.add_argument(
        '--textures',
        type=Path,
        nargs='*',
        default=[],
        metavar='FOLDER',
        help='folders of images as textures (default: procedural textures only)',
    )
    group.add_argument(
        '--rgbd',
        type=Path,
        nargs='*',
        default=[],
        metavar='FOLDER',
        help='folders of colour and depth images, the scenes of a quarter of the stacks',
    )
    group.add_argument(
        '--image-size',
        type=int,
        default=defaults.image_size,
        metavar='PIXELS',
        help=f'side of the rendered images (default: {defaults.image_size})',
    )
    group.add_argument(
        '--stacks',
        type=int,
        default=defaults.stacks,
        metavar='N',
        help=f'focal stacks of the pool (default: {defaults.stacks})',
    )
    group.add_argument(
        '--views',
        type=int,
        default=defaults.views,
        metavar='N',
        help=f'indoor views for generated data (default: {defaults.views})',
    )
    group.add_argument(
        '--reuse',
        type=int,
        default=defaults.reuse,
        metavar='CROPS',
        help='crops of each generated stack on average; raise it if training waits for data '
        f'(default: {defaults.reuse})',
    )
    group.add_argument(
        '--held-out',
        type=int,
        default=defaults.held_out,
        metavar='N',
        help=f'stacks to calibrate sigma and to measure on (default: {defaults.held_out})',
    )
    planes = BatchConfig().planes
    group.add_argument(
        '--planes',
        type=int,
        nargs=2,
        default=planes,
        metavar=('MIN', 'MAX'),
        help=f'planes per stack in training (default: {planes[0]} {planes[1]})',
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
        '--asymmetry',
        type=float,
        default=defaults.asymmetry,
        metavar='SHARE',
        help='share of stacks with different blur on both sides of focus (default: 0)',
    )
    group.add_argument(
        '--textureless',
        type=float,
        default=defaults.textureless,
        metavar='SHARE',
        help='share of random surfaces without texture, such as walls (default: 0)',
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
    defaults = TrainerConfig()
    group.add_argument(
        '--steps',
        type=int,
        metavar='N',
        help=f'steps of the whole schedule (default: {defaults.steps}; with --only-sigma '
        f'{TrainingConfig.sigma_batches})',
    )
    group.add_argument(
        '--max-minutes',
        type=float,
        default=defaults.max_minutes,
        metavar='MINUTES',
        help='training time of the whole schedule over all resumed runs (default: 0, no limit)',
    )
    group.add_argument(
        '--window',
        type=float,
        default=defaults.window_minutes,
        metavar='MINUTES',
        help='stop this run after this time, to resume later with the same result (default: 0, '
        'no limit)',
    )
    group.add_argument(
        '--batch',
        type=int,
        default=defaults.batch.size,
        metavar='N',
        help=f'stacks per step and process (default: {defaults.batch.size})',
    )
    group.add_argument(
        '--crop',
        type=int,
        default=defaults.batch.crop,
        metavar='PIXELS',
        help=f'side of training crops (default: {defaults.batch.crop})',
    )
    group.add_argument(
        '--learning-rate',
        type=float,
        default=defaults.learning_rate,
        metavar='RATE',
        help=f'maximum learning rate (default: {defaults.learning_rate})',
    )
    group.add_argument(
        '--seed',
        type=int,
        default=defaults.seed,
        help=f'seed of weights and data (default: {defaults.seed})',
    )
    group.add_argument(
        '--sample-every',
        type=int,
        default=defaults.sample_every,
        metavar='STEPS',
        help=f'steps between sample images (default: {defaults.sample_every}; 0: none)',
    )


def _add_device_arguments(group: argparse._ArgumentGroup) -> None:
    add_device_argument(group)
    group.add_argument(
        '--precision',
        default='auto',
        choices=PRECISIONS,
        help='of the convolutions (default: bf16 or else fp16 on CUDA, fp32 on a CPU); losses and '
        'the projection are in fp32',
    )


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
    steps, sigma_batches = arguments.steps, arguments.steps
    if steps is None:
        steps, sigma_batches = TrainerConfig.steps, TrainingConfig.sigma_batches
    return TrainingConfig(
        out=arguments.out,
        network=NetworkConfig(
            name=arguments.config,
            ablate=tuple(arguments.ablate),
            paper_loss=arguments.paper_loss,
            beta=arguments.beta,
            start=arguments.start,
        ),
        data=DataConfig(
            source=arguments.data,
            textures=tuple(arguments.textures),
            rgbd=tuple(arguments.rgbd),
            image_size=arguments.image_size,
            stacks=arguments.stacks,
            views=arguments.views,
            reuse=arguments.reuse,
            held_out=arguments.held_out,
            blur_range=tuple(arguments.blur) if arguments.blur else None,
            asymmetry=arguments.asymmetry,
            textureless=arguments.textureless,
            workers=arguments.workers,
        ),
        trainer=TrainerConfig(
            steps=steps,
            max_minutes=arguments.max_minutes,
            window_minutes=arguments.window,
            learning_rate=arguments.learning_rate,
            precision=arguments.precision,
            sample_every=arguments.sample_every,
            seed=arguments.seed,
            batch=BatchConfig(arguments.batch, arguments.crop, tuple(arguments.planes)),
        ),
        weights_name=arguments.name,
        device=arguments.device,
        only_sigma=arguments.only_sigma,
        sigma_batches=sigma_batches,
        render_only=arguments.render_only,
    )
