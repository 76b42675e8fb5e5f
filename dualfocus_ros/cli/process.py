# SPDX-License-Identifier: Apache-2.0
"""``dualfocus process``: a bag through the depth node's own pipeline, without DDS."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
import json
import logging
from pathlib import Path
import time
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import STORAGES, BagWriter
from dualfocus_ros.cli import bag_topics, camera_arguments, node_parameters
from dualfocus_ros.cli.bag_arguments import open_bag, rejections_in_words, require_offline_node
from dualfocus_ros.cli.bag_topics import BagInputs, find_inputs
from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.range_monitor import RangeMonitor
from dualfocus_ros.sweep.stage_counter import StageCounts
from dualfocus_ros.topics import DEPTH, OUTPUTS

logger = logging.getLogger(__name__)


@dataclass
class ProcessingSummary:
    """What came of it; ``seconds`` is the time it took, ``bag_seconds`` that in the bag."""

    messages: int = 0
    sweeps: int = 0
    depths: int = 0
    seconds: float = 0.0
    bag_seconds: float = 0.0
    interrupted: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('input', type=Path, metavar='IN', help='bag: folder, .mcap or .db3')
    parser.add_argument('output', type=Path, metavar='OUT', help='folder to create for the bag')
    for topic in OUTPUTS:
        if topic.process_option:
            option = f'--{topic.process_option.replace("_", "-")}'
            parser.add_argument(option, action='store_true', help=f'write {topic.name}')
    parser.add_argument(
        '--inputs', action='store_true', help='copy what the depth was computed from'
    )
    parser.add_argument('--storage', choices=[*STORAGES], default='mcap')
    parser.add_argument('--compress', action='store_true', help='compress chunks with zstd (MCAP)')
    parser.add_argument('--json', action='store_true', help='print the summary as JSON')
    bag_topics.add_arguments(parser)
    camera_arguments.add_arguments(parser)
    node_parameters.add_arguments(parser)
    parser.epilog = (
        'Computes what the depth node computes, sweep after sweep and as fast as the machine '
        'allows; no sweep is left out. The same bag gives the same bytes, so the timings in '
        'stack_info are NaN. Needs the message classes and rclpy to be importable, but joins no '
        'DDS domain.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Process the bag and return the exit status: 1 if no depth came out."""
    if arguments.output.exists():
        raise UsageError(f'{arguments.output} exists already: remove it or choose another name')
    parameters = node_parameters.read_parameters(arguments)
    require_offline_node()
    with open_bag(arguments.input) as bag:
        inputs = find_inputs(bag, parameters, arguments)
        if inputs.missing:
            raise CommandError(f'{arguments.input}: {"; ".join(inputs.missing)}')
        camera = camera_arguments.camera_info_from(arguments, bag, inputs)
        if camera is None and inputs.camera_info is None:
            logger.warning(
                'no camera_info for %s: depth without camera_info and points '
                '(--camera-info or --intrinsics)',
                inputs.image,
            )
        from dualfocus_ros.nodes.stack_processor import load_estimator

        estimator = load_estimator(inputs.settings)
        with BagWriter(
            arguments.output, storage=arguments.storage, compress=arguments.compress
        ) as out:
            summary, stage_counter = _process(arguments, bag, out, inputs, estimator, camera)
    _report(arguments, summary, stage_counter)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.depths == 0:
        raise CommandError(
            f'{arguments.input}: no depth came out; {rejections_in_words(stage_counter) or "no sweep"}'
        )
    return 0


def _process(
    arguments: argparse.Namespace,
    bag: BagReader,
    out: BagWriter,
    inputs: BagInputs,
    estimator: Any,
    camera: Any,
) -> tuple[ProcessingSummary, StageCounts]:
    """Compute and write everything; Ctrl-C ends it early with a whole bag."""
    from dualfocus_ros.nodes.offline import OfflineNode, OfflinePipeline

    wanted = [
        topic.name
        for topic in OUTPUTS
        if not topic.process_option or getattr(arguments, topic.process_option)
    ]
    summary = ProcessingSummary()

    def write(topic: str, message: Any) -> None:
        out.write_message(topic, message, node.now_ns)
        if topic == depth_topic:
            summary.depths += 1

    node = OfflineNode(inputs.remap, wanted, write)
    depth_topic = node.resolve_topic_name(DEPTH.name)
    watch = RangeMonitor()

    def look(stack: FocalStack) -> None:
        warning = watch.look(inputs.settings.pipeline(), float(stack.focus_dioptres.min()))
        if warning is not None:
            logger.warning('%s', warning)

    pipeline = OfflinePipeline(inputs.settings, node, estimator, camera, look)
    topics = [name for name in bag.topics if name in pipeline.topics]
    total = sum(bag.topics[name].count for name in topics)
    began = time.monotonic()
    first_ns: int | None = None
    with tqdm(total=total, unit='msg', desc='processing', disable=_no_bar()) as bar:
        try:
            for message in bag.messages(topics):
                first_ns = message.stamp_ns if first_ns is None else first_ns
                if arguments.inputs:
                    out.copy(message, bag.topics[message.topic])
                pipeline.take(message)
                summary.messages += 1
                if pipeline.stacks != summary.sweeps:
                    summary.sweeps = pipeline.stacks
                    rate = summary.sweeps / (time.monotonic() - began)
                    bar.set_postfix_str(f'{summary.sweeps} sweeps, {rate:.2f} sweeps/s', False)
                bar.update()
            pipeline.finish()
        except KeyboardInterrupt:
            summary.interrupted = True
    summary.sweeps = pipeline.stacks
    summary.seconds = time.monotonic() - began
    summary.bag_seconds = 0.0 if first_ns is None else (node.now_ns - first_ns) * 1e-9
    return summary, pipeline.stage_counter.snapshot()


def _report(
    arguments: argparse.Namespace, summary: ProcessingSummary, stage_counter: StageCounts
) -> None:
    rate = summary.sweeps / summary.seconds if summary.seconds > 0.0 else 0.0
    if arguments.json:
        echo(
            json.dumps(
                {
                    'input': str(arguments.input),
                    'output': str(arguments.output),
                    'messages': summary.messages,
                    'sweeps': summary.sweeps,
                    'depths': summary.depths,
                    'seconds': round(summary.seconds, 3),
                    'bag_seconds': round(summary.bag_seconds, 3),
                    'sweeps_per_second': round(rate, 3),
                    'rejected': {
                        rejection.reason: rejection.count for rejection in stage_counter.rejections
                    },
                },
                indent=2,
            )
        )
        return
    faster = summary.bag_seconds / summary.seconds if summary.seconds > 0.0 else 0.0
    echo(
        f'{summary.depths} depth images of {summary.sweeps} sweeps in {summary.seconds:.1f} s: '
        f'{rate:.2f} sweeps/s, {faster:.2f} times as fast as recorded'
    )
    why = rejections_in_words(stage_counter)
    if why:
        echo(f'rejected: {why}')
    echo(f'written to {arguments.output}')


def _no_bar() -> bool | None:
    """Return what tqdm takes for `disable`: None shows a bar on terminals only."""
    return None if logger.isEnabledFor(logging.INFO) else True
