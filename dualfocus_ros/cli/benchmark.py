# SPDX-License-Identifier: Apache-2.0
"""``dualfocus benchmark``: time methods on this machine."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import re
import sys
from typing import TYPE_CHECKING

from dualfocus_ros.cli.arguments import (
    add_device_argument,
    add_json_argument,
    add_threads_argument,
)
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import ConfigError, UsageError

if TYPE_CHECKING:
    from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig

logger = logging.getLogger(__name__)

SMALLEST, LARGEST = 32, 8192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'All methods run interleaved on the same stacks, so that other load on the machine '
        'affects all of them. Writes benchmark.md, benchmark.json and benchmark.png. Leave the '
        'machine idle meanwhile. The planes vary at 640x480 and the size with 5 planes.'
    )
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        default=Path('bench'),
        metavar='OUT',
        help='folder (default: bench)',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=[],
        help='auto, shipped models, configurations (random weights), .safetensors files, dfv, '
        'sml, rdf (default: all)',
    )
    parser.add_argument('--planes', type=int, nargs='+', metavar='N', help='(default: 2 5 10 20)')
    parser.add_argument(
        '--sizes',
        type=_size,
        nargs='+',
        metavar='WxH',
        help='(default: 320x240 640x480 960x720 1280x960)',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        metavar='S',
        help='budget of the repeats of a method at a setting, at least 3 repeats (default: 5)',
    )
    add_device_argument(parser)
    add_threads_argument(parser)
    parser.add_argument(
        '--precision',
        default='auto',
        choices=('auto', 'fp32', 'fp16', 'bf16'),
        help='number format of the networks (default: auto; DFV on a CPU: fp32)',
    )
    parser.add_argument(
        '--node',
        action='store_true',
        help='also over DDS: camera, depth node and receiver as processes, and the transport of '
        'images with and without the Fast DDS profile of this package (needs ROS 2)',
    )
    parser.add_argument(
        '--quick', action='store_true', help='small stacks, few repeats: a functional check'
    )
    add_json_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Measure, write and print."""
    from dualfocus_ros.benchmark.benchmark_report import as_markdown, write_report
    from dualfocus_ros.benchmark.benchmark_run import add_node_results, run_benchmark
    from dualfocus_ros.evaluation.tables import to_json

    config = _config(arguments)
    if arguments.node:
        require_ros()
        require_ros('dualfocus_ros.msg')
    with progress_bar('benchmark', unit='run') as bar:
        report = run_benchmark(config, bar)
        if arguments.node:
            from dualfocus_ros.benchmark.node_latency import (
                QUICK,
                NodeBenchmarkConfig,
                measure_node,
            )

            amount = QUICK if arguments.quick else NodeBenchmarkConfig()
            report = add_node_results(report, measure_node(config, report, bar, amount))
    write_report(arguments.output, report)
    logger.info('wrote %s', arguments.output / 'benchmark.md')
    if report['busy']:
        logger.warning('the machine was busy before the measurement: trust only the ratios')
    sys.stdout.write(to_json(report) if arguments.json else as_markdown(report))
    return 0


def _config(arguments: argparse.Namespace) -> BenchmarkConfig:
    from dualfocus_ros.benchmark.benchmark_run import (
        PLANES,
        QUICK_PLANES,
        QUICK_SIZES,
        SIZES,
        BenchmarkConfig,
    )
    from dualfocus_ros.benchmark.method_timing import ComputeConfig, method_names
    from dualfocus_ros.models.weights import resolve_model

    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f'{arguments.output} exists and is not a folder')
    methods = arguments.methods
    if 'auto' in methods and (default := resolve_model('auto')[1]) in methods:
        raise UsageError(
            f"--methods: 'auto' is '{default}', which would be measured twice: leave out one of "
            'the two names'
        )
    quick = arguments.quick
    try:
        compute = ComputeConfig(arguments.device, arguments.precision, arguments.threads)
        config = BenchmarkConfig(
            methods=tuple(methods or method_names()),
            planes=tuple(arguments.planes or (QUICK_PLANES if quick else PLANES)),
            sizes=tuple(arguments.sizes or (QUICK_SIZES if quick else SIZES)),
            seconds=(0.1 if quick else 5.0) if arguments.seconds is None else arguments.seconds,
            compute=compute,
        )
    except ConfigError as error:
        raise UsageError(f'--{error}') from None
    assert compute.dtype  # report an unavailable device or precision before any work
    return config


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'(\d+)x(\d+)', text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 640x480, got '{text}'")
    width, height = int(found[1]), int(found[2])
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise argparse.ArgumentTypeError(
            f"width and height must be {SMALLEST} to {LARGEST} pixels, got '{text}'"
        )
    return width, height
