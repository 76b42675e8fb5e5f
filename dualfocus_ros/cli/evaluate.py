# SPDX-License-Identifier: Apache-2.0
"""``dualfocus evaluate``: compare methods on data sets."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from dualfocus_ros.cli.arguments import (
    add_device_argument,
    add_json_argument,
    add_threads_argument,
)
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.exceptions import ConfigError, UsageError

logger = logging.getLogger(__name__)

EPILOG = """
Data: synthetic:SEED, shapes:SEED and indoor:SEED need no download. On disk: nyu:FOLDER (BTS
export) or nyu:FILE.mat, ddff12:FILE.h5, fod500:FOLDER, arkitscenes:FOLDER, middlebury-fs:FOLDER,
rgbd:FOLDER (colour and depth), stack:FOLDER (one focal stack; options unit= focus= truth=
truth-scale= crop= border= align= plane=). Options follow the place:
stack:DIR,unit=slices,truth=z.npy,border=15.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = EPILOG
    parser.add_argument(
        '--data',
        action='append',
        metavar='KIND:PLACE',
        default=[],
        help='data set; may be repeated (default: synthetic:0 and indoor:0)',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=[],
        help='shipped models, .safetensors files, sml, rdf, dfv:FILE, range-only, single-image '
        '(default: all shipped models, sml, rdf, range-only)',
    )
    parser.add_argument(
        '--baseline',
        metavar='METHOD',
        help='also print the ratios of the errors of the others to those of this method',
    )
    parser.add_argument(
        '--protocol',
        choices=('A', 'B'),
        default='B',
        help='stacks from RGB-D sets: A as published, focus taken from the truth of each image; '
        'B one focus list and one lens for all (default)',
    )
    for flag, text in (
        ('--planes', 'planes per stack (default: 5 for A, 10 for B, all of recorded stacks)'),
        ('--limit', 'stacks per data set (default: all)'),
        ('--seed', 'of the noise of protocol B'),
    ):
        parser.add_argument(flag, type=int, default=0, help=text)
    add_device_argument(parser)
    add_threads_argument(parser)
    add_json_argument(parser)
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        metavar='FOLDER',
        help='write report.md, report.json and figures',
    )


def execute(arguments: argparse.Namespace) -> int:
    """Evaluate, print the report and, with ``--output``, write it."""
    from dualfocus_ros.evaluation.evaluation_run import (
        DEFAULT_DATA,
        EvaluationConfig,
        run_evaluation,
    )

    try:
        config = EvaluationConfig(
            data=tuple(arguments.data) or DEFAULT_DATA,
            methods=tuple(arguments.methods),
            baseline=arguments.baseline,
            protocol=arguments.protocol,
            planes=arguments.planes,
            limit=arguments.limit,
            seed=arguments.seed,
            device=arguments.device,
            threads=arguments.threads,
        )
        with progress_bar('evaluating', unit='estimate') as bar:
            report = run_evaluation(config, bar)
    except ConfigError as error:
        raise UsageError(f'--{error}') from None
    if arguments.output is None:
        markdown = report.markdown()
    else:
        markdown = report.write(arguments.output)
        logger.info('wrote %s', arguments.output / 'report.md')
    sys.stdout.write(report.json() if arguments.json else markdown)
    return 0
