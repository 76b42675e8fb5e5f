# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train``: from nothing to a ``.safetensors`` file that the nodes load."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
import logging
from pathlib import Path

logger = logging.getLogger(__name__)

EPILOG = """
Renders its own training data: random textured shapes and procedural indoor views through random
lenses. A run that was stopped goes on where it was when it is started again with the same --out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = EPILOG
    parser.add_argument(
        '-o', '--out', type=Path, required=True, help='folder of the run: data, checkpoint, log'
    )
    parser.add_argument('--name', default='dualfocus-lite', help='name of the weights file')
    parser.add_argument(
        '--textures', type=Path, nargs='*', default=[], metavar='FOLDER',
        help='folders of images to texture the shapes with (default: generated textures only)',
    )  # fmt: skip
    parser.add_argument(
        '--stacks', type=int, default=1200, help='rendered focal stacks to train on'
    )
    parser.add_argument('--held-out', type=int, default=48, help='rendered stacks to measure on')
    parser.add_argument('--steps', type=int, default=20000, help='steps of the whole plan')
    parser.add_argument(
        '--max-minutes', type=float, default=0.0,
        help='minutes of training over all resumed runs (default: no limit)',
    )  # fmt: skip
    parser.add_argument('--batch', type=int, default=4, help='stacks per step')
    parser.add_argument('--crop', type=int, default=160, help='side of the training crops, pixels')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--workers', type=int, default=2, help='processes that render')


def execute(arguments: argparse.Namespace) -> int:
    """Render, train, calibrate, measure and write the weights with their manifest."""
    from dualfocus_ros.network.model import DualFocusConfig
    from dualfocus_ros.pipeline.device import resolve_device
    from dualfocus_ros.training.batches import BatchSettings
    from dualfocus_ros.training.pool import render_pool
    from dualfocus_ros.training.release import calibrate_sigma, measure, write_release
    from dualfocus_ros.training.trainer import Trainer, TrainSettings

    out: Path = arguments.out
    settings = TrainSettings(
        steps=arguments.steps,
        max_minutes=arguments.max_minutes,
        seed=arguments.seed,
        batch=replace(BatchSettings(), size=arguments.batch, crop=arguments.crop),
    )
    trainer = Trainer(DualFocusConfig(), settings, out, resolve_device(arguments.device))
    textures, workers = arguments.textures, arguments.workers
    pool = render_pool(out / 'stacks', arguments.stacks, arguments.seed, textures, workers)
    model = trainer.run(pool)

    # Half of the held-out stacks calibrates sigma, the other half measures.
    held_out_seed = arguments.seed + 1_000_000
    held_out = render_pool(out / 'held_out', arguments.held_out, held_out_seed, textures, workers)
    half = len(held_out) // 2
    planes = 6
    calibrate_sigma(model, held_out[:half], planes)
    metrics, _ = measure(model, held_out[half:], planes)
    recipe = {
        'data': f'{arguments.stacks} rendered stacks, seed {arguments.seed}',
        'textures': [folder.name for folder in textures] or 'generated',
        'steps': trainer.step,
        'minutes': round(trainer.seconds / 60.0, 1),
        'settings': asdict(settings),
    }
    write_release(out, arguments.name, model, recipe, metrics)
    logger.info('wrote %s: %s', out / f'{arguments.name}.safetensors', asdict(metrics))
    return 0
