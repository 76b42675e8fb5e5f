# SPDX-License-Identifier: Apache-2.0
"""``dualfocus benchmark``: how long everything takes here, side by side in one run."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import re
import sys
from typing import Any

from tqdm import tqdm

from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.io.atomic_files import write_text

logger = logging.getLogger(__name__)

PLANES = (2, 5, 10, 20)
SIZES = ((320, 240), (640, 480), (960, 720), (1280, 960))
QUICK_PLANES, QUICK_SIZES = (2, 5), ((160, 120), (320, 240))
SMALLEST, LARGEST = 32, 8192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Every method runs on the same stacks, in turns, so that whatever else the machine does '
        'hits all alike. Writes benchmark.md, benchmark.json and benchmark.png. Do not use the '
        'machine meanwhile. The planes vary at 640x480 and the size with 5 planes.'
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
        help='for the repeats of each method at each setting, 3 at least (default: 5)',
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='on a CPU (default: all but one)')
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
        'images with and without our Fast DDS profile (needs ROS 2)',
    )
    parser.add_argument(
        '--quick', action='store_true', help='small, few repeats: to see that it works'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')


def execute(arguments: argparse.Namespace) -> int:
    """Measure, write and print."""
    plan = _plan(arguments)
    if arguments.node:
        from dualfocus_ros.benchmark.node_latency import require_ros

        require_ros()
    from dualfocus_ros.benchmark import benchmark_run

    with _progress('run') as bar:
        report = benchmark_run.run(plan, bar)
        if arguments.node:
            from dualfocus_ros.benchmark.node_latency import (
                QUICK,
                NodeBenchmarkConfig,
                measure_node,
            )

            amount = QUICK if arguments.quick else NodeBenchmarkConfig()
            report = benchmark_run.add_node_results(
                report, measure_node(plan, report, bar, amount)
            )
    _write(arguments.output, report)
    logger.info('wrote %s', arguments.output / 'benchmark.md')
    if report['busy']:
        logger.warning('the machine was busy before anything was measured: only ratios hold')
    from dualfocus_ros.benchmark.benchmark_report import as_json, as_markdown

    sys.stdout.write(as_json(report) if arguments.json else as_markdown(report))
    return 0


def _plan(arguments: argparse.Namespace) -> Any:
    from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig
    from dualfocus_ros.benchmark.timed_methods import ComputeConfig, method_names
    from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES

    quick = arguments.quick
    planes = tuple(arguments.planes or (QUICK_PLANES if quick else PLANES))
    for count in planes:
        if not MIN_PLANES <= count <= MAX_PLANES:
            raise UsageError(
                f'--planes: a stack has {MIN_PLANES} to {MAX_PLANES} planes, got {count}'
            )
    seconds = arguments.seconds if arguments.seconds is not None else (0.1 if quick else 5.0)
    if not seconds > 0.0:
        raise UsageError(f'--seconds must be positive, got {seconds:g}')
    if arguments.threads < 0:
        raise UsageError(f'--threads must not be negative, got {arguments.threads}')
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f'{arguments.output} exists and is not a folder')
    place = ComputeConfig(arguments.device, arguments.precision, arguments.threads)
    assert place.format  # an error about device or precision comes before any work
    return BenchmarkConfig(
        tuple(arguments.methods) or tuple(method_names()),
        planes,
        tuple(arguments.sizes or (QUICK_SIZES if quick else SIZES)),
        seconds,
        place,
    )


def _progress(unit: str) -> tqdm:
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    return tqdm(unit=unit, leave=False, disable=quiet or None)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'(\d+)x(\d+)', text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT, such as 640x480; got '{text}'")
    width, height = int(found[1]), int(found[2])
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise argparse.ArgumentTypeError(
            f"sides of images are {SMALLEST} to {LARGEST} pixels here, got '{text}'"
        )
    return width, height


def _write(folder: Path, report: dict[str, Any]) -> None:
    from dualfocus_ros.benchmark.benchmark_plot import scaling_figure
    from dualfocus_ros.benchmark.benchmark_report import as_json, as_markdown
    from dualfocus_ros.io.png import save_palette_png

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / 'benchmark.md', as_markdown(report))
    write_text(folder / 'benchmark.json', as_json(report))
    save_palette_png(folder / 'benchmark.png', scaling_figure(report))
