# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train``: from nothing to a ``.safetensors`` file that the nodes load."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DESCRIPTION = """
Train a network from nothing to a .safetensors file that the nodes and the other commands load.
The data is rendered: random textured shapes, procedural indoor views and, if given, views with
measured depth, through random lenses and sweeps.
"""
STEPS, SIGMA_STEPS = 20000, 200
EPILOG = """
examples:
  on a CPU, in an evening, the small network:
    dualfocus train -o runs/lite --textures ~/photos --max-minutes 120
  on a GPU that is there for 20 minutes now and then: the same command every time. It stops after
  the window, on Ctrl-C and on SIGTERM with everything saved, and goes on there next time; when
  the plan is done it writes the weights:
    dualfocus train -o runs/full --config dualfocus --batch 16 --steps 60000 --window 20
  on the GPUs of one machine:
    torchrun --nproc-per-node=4 -m dualfocus_ros train -o runs/full --config dualfocus
  the shipped network, going on with your own scenes:
    dualfocus train -o runs/mine --from dualfocus-lite --rgbd ~/scans --learning-rate 2e-4
  how far to trust the shipped network's depth, on your own scenes:
    dualfocus train -o runs/sure --from dualfocus-lite --only-sigma --rgbd ~/scans --crop 256
  the baseline and an ablation, for a comparison with equal data, steps and schedule:
    dualfocus train -o runs/dfv --config dfv
    dualfocus train -o runs/no_focal --without focal

The run's folder holds checkpoint.safetensors, log.csv, samples/, tensorboard/ (if installed) and
in the end NAME.safetensors with manifest.json. docs/training.md tells more.
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
        help='folder of the run; start again with the same one to go on',
    )
    parser.add_argument(
        '--name', help='name of the weights file (default: that of the configuration)'
    )
    network = parser.add_argument_group('network')
    network.add_argument(
        '--config',
        default='dualfocus-lite',
        metavar='NAME',
        help='dualfocus-lite (default), dualfocus, dualfocus-paper, or dfv, the baseline',
    )
    network.add_argument(
        '--without',
        nargs='+',
        default=[],
        choices=('spatial', 'focal', 'projection'),
        help='ablations: without the spatial constraint, the focal one, or the projection '
        '(and with it the spatial constraint)',
    )
    network.add_argument(
        '--literal',
        action='store_true',
        help='the loss as printed: beta 1, sums, sharpness weights without a temperature',
    )
    network.add_argument(
        '--beta',
        type=float,
        metavar='SHARE',
        help='errors of the inverse depth below this share of the sweep count squared, larger '
        'ones as they are; less of it asks for precision (default: 0.03)',
    )
    network.add_argument(
        '--from',
        dest='start',
        metavar='MODEL',
        help='begin with the weights of a shipped name or a .safetensors file of the same '
        'configuration rather than with random ones; a tenth of the usual --learning-rate suits',
    )
    network.add_argument(
        '--only-sigma',
        action='store_true',
        help='learn how far to trust the depth of --from, on your scenes or lens, and leave the '
        'depth as it is: some minutes; --steps is the number of batches that it looks at',
    )
    data = parser.add_argument_group('data')
    data.add_argument(
        '--data',
        choices=('auto', 'pool', 'generated'),
        default='auto',
        help='pool: rendered by the CPUs beforehand; generated: on the training device all the '
        'time (default: generated on CUDA, else pool)',
    )
    data.add_argument(
        '--textures',
        type=Path,
        nargs='*',
        default=[],
        metavar='FOLDER',
        help='folders of images to texture the shapes with (default: generated textures only)',
    )
    data.add_argument(
        '--rgbd',
        type=Path,
        nargs='*',
        default=[],
        metavar='FOLDER',
        help='folders of colour and depth images, of which a quarter of the stacks is rendered',
    )
    data.add_argument(
        '--stacks',
        type=int,
        default=1200,
        metavar='N',
        help='focal stacks of the pool (default: 1200)',
    )
    data.add_argument(
        '--views',
        type=int,
        default=200,
        metavar='N',
        help='indoor views for generated data (default: 200)',
    )
    data.add_argument(
        '--reuse',
        type=int,
        default=4,
        metavar='CROPS',
        help='crops that training takes of a generated stack on average; more where it waits '
        'for data (default: 4)',
    )
    data.add_argument(
        '--held-out',
        type=int,
        default=48,
        metavar='N',
        help='rendered stacks to measure on (default: 48)',
    )
    data.add_argument(
        '--planes',
        type=int,
        nargs=2,
        default=(3, 10),
        metavar=('MIN', 'MAX'),
        help='planes per stack in training (default: 3 10)',
    )
    data.add_argument(
        '--blur',
        type=float,
        nargs=2,
        metavar=('MIN', 'MAX'),
        help='diameter in pixels of the blur of the nearest point of a scene when the farthest is '
        'in focus (default: from a camera module to a fast lens)',
    )
    data.add_argument(
        '--asymmetry',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='share of stacks whose lens blurs differently on both sides of focus (default: 0)',
    )
    data.add_argument(
        '--blank',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='share of the random surfaces without any texture, as many walls are (default: 0)',
    )
    data.add_argument(
        '--workers',
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='processes that render beforehand (default: one for each CPU)',
    )
    data.add_argument(
        '--prepare',
        action='store_true',
        help='only render what has to be there before training starts: no GPU is needed for it',
    )
    plan = parser.add_argument_group('plan')
    plan.add_argument(
        '--steps',
        type=int,
        metavar='N',
        help=f'steps of the whole plan ({STEPS}; with --only-sigma {SIGMA_STEPS})',
    )
    plan.add_argument(
        '--max-minutes',
        type=float,
        default=0.0,
        metavar='MINUTES',
        help='minutes of training of the whole plan, over all resumed runs (default: no limit)',
    )
    plan.add_argument(
        '--window',
        type=float,
        default=0.0,
        metavar='MINUTES',
        help='stop this run after so many minutes, to go on another time; what is trained stays '
        'the same',
    )
    plan.add_argument(
        '--batch', type=int, default=4, metavar='N', help='stacks per step and process (4)'
    )
    plan.add_argument(
        '--crop', type=int, default=160, metavar='PIXELS', help='side of training crops (160)'
    )
    plan.add_argument(
        '--learning-rate', type=float, default=2e-3, metavar='RATE', help='at its peak (0.002)'
    )
    plan.add_argument('--seed', type=int, default=1, help='of weights and data (1)')
    machine = parser.add_argument_group('machine')
    machine.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    machine.add_argument(
        '--precision',
        default='auto',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
        help='of the convolutions; auto is bf16 or else fp16 on CUDA, fp32 on a CPU. Losses and '
        'the projection are always in fp32',
    )
    machine.add_argument(
        '--sample-every',
        type=int,
        default=500,
        metavar='STEPS',
        help='steps between sample pictures (default: 500; 0: none)',
    )


def execute(arguments: argparse.Namespace) -> int:
    """Train, and when the plan is done calibrate, measure and write the weights."""
    _check(arguments)
    import torch

    from dualfocus_ros.exceptions import CommandError
    from dualfocus_ros.training.distributed import join_process_group
    from dualfocus_ros.training.training_run import run_training

    with join_process_group(arguments.device) as (team, device):
        try:
            return run_training(arguments, team, device)
        except torch.OutOfMemoryError as error:
            out, smaller = arguments.out, max(arguments.batch // 2, 1)
            raise CommandError(
                f'out of GPU memory ({str(error).splitlines()[0][:120]}): train with --batch '
                f'{smaller} or a smaller --crop, and another --out than {out} if training had '
                'begun there'
            ) from None


def _check(arguments: argparse.Namespace) -> None:
    from dualfocus_ros.exceptions import UsageError

    if arguments.only_sigma:
        if not arguments.start:
            raise UsageError('--only-sigma needs a trained network: give it with --from')
        if arguments.window or arguments.max_minutes or 'WORLD_SIZE' in os.environ:
            raise UsageError(
                '--only-sigma takes some minutes in one process: no --window, no --max-minutes, '
                'no torchrun'
            )
    if arguments.steps is None:
        arguments.steps = SIGMA_STEPS if arguments.only_sigma else STEPS
    for name in ('steps', 'batch', 'crop', 'stacks', 'held_out', 'workers', 'views', 'reuse'):
        smallest = {'held_out': 2, 'crop': 32}.get(name, 1)
        if getattr(arguments, name) < smallest:
            option = name.replace('_', '-')
            raise UsageError(f'--{option} must be at least {smallest}')
    for name in ('max_minutes', 'window', 'sample_every'):
        if getattr(arguments, name) < 0:
            raise UsageError(f'--{name.replace("_", "-")} must not be negative')
    low, high = arguments.planes
    if not 2 <= low <= high <= 32:
        raise UsageError(f'--planes must be 2 <= MIN <= MAX <= 32, got {low} {high}')
    if arguments.blur and not 0.0 < arguments.blur[0] < arguments.blur[1]:
        raise UsageError('--blur needs two diameters above 0, the smaller one first')
    for name in ('asymmetry', 'blank'):
        if not 0.0 <= getattr(arguments, name) <= 1.0:
            raise UsageError(f'--{name} is a share from 0 to 1, got {getattr(arguments, name)}')
    if arguments.beta is not None and arguments.beta <= 0.0:
        raise UsageError(f'--beta must be positive, got {arguments.beta}')
    if arguments.learning_rate <= 0.0:
        raise UsageError(f'--learning-rate must be positive, got {arguments.learning_rate}')
