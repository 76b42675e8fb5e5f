# SPDX-License-Identifier: Apache-2.0
"""``dualfocus process``: compute depth from a bag as the depth node does, without DDS."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_ros.bags.writer import STORAGES, BagWriter
from dualfocus_ros.cli.arguments import add_json_argument
from dualfocus_ros.cli.bag_arguments import (
    add_bag_arguments,
    camera_info_from,
    check_new_bag,
    format_rejections,
    open_bag,
    parameters_from,
    topic_options,
)
from dualfocus_ros.cli.console import echo, echo_json, progress_bar
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.nodes.offline.bag_inputs import find_inputs
from dualfocus_ros.topics import OUTPUTS

if TYPE_CHECKING:
    from dualfocus_ros.nodes.offline.offline_node import ProcessingSummary

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('input', type=Path, metavar='IN', help='bag: folder, .mcap or .db3')
    parser.add_argument('output', type=Path, metavar='OUT', help='folder to create for the bag')
    for topic in OUTPUTS:
        if topic.process_option:
            option = f'--{topic.process_option.replace("_", "-")}'
            parser.add_argument(option, action='store_true', help=f'write {topic.name}')
    parser.add_argument('--inputs', action='store_true', help='copy the input messages')
    parser.add_argument('--storage', choices=[*STORAGES], default='mcap')
    parser.add_argument('--compress', action='store_true', help='compress chunks with zstd (MCAP)')
    add_json_argument(parser)
    add_bag_arguments(parser)
    parser.epilog = (
        'Computes every sweep as the depth node would, as fast as possible. The same bag gives '
        'the same bytes, so the timings in stack_info are NaN. Needs rclpy and the message '
        'classes, but joins no DDS domain.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Process the bag; fail if it gives no depth."""
    check_new_bag(arguments.output)
    parameters = parameters_from(arguments)
    options = topic_options(arguments)
    require_ros('dualfocus_ros.nodes.offline.offline_node')
    with open_bag(arguments.input) as bag:
        inputs = find_inputs(bag, parameters, options)
        if inputs.missing:
            raise CommandError(f'{arguments.input}: {"; ".join(inputs.missing)}')
        camera = camera_info_from(arguments, bag, inputs)
        if camera is None and inputs.camera_info is None:
            logger.warning(
                'no camera_info for %s: depth without camera_info and points '
                '(--camera-info or --intrinsics)',
                inputs.image,
            )
        from dualfocus_ros.nodes.offline.offline_node import process_bag
        from dualfocus_ros.nodes.stack_processor import load_estimator

        estimator = load_estimator(inputs.settings)
        outputs = [
            topic.name
            for topic in OUTPUTS
            if not topic.process_option or getattr(arguments, topic.process_option)
        ]
        with (
            BagWriter(
                arguments.output, storage=arguments.storage, compress=arguments.compress
            ) as writer,
            progress_bar('processing', unit='msg', leave=True) as bar,
        ):

            def show(summary: ProcessingSummary) -> None:
                bar.total = summary.total
                rate = f'{summary.sweeps_per_second:.2f} sweeps/s'
                bar.set_postfix_str(f'{summary.sweeps} sweeps, {rate}', refresh=False)
                bar.update()

            summary = process_bag(
                bag,
                writer,
                inputs,
                estimator,
                outputs,
                camera=camera,
                copy_inputs=arguments.inputs,
                on_message=show,
            )
    _print(arguments, summary)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.depths == 0:
        assert summary.stage_counts is not None
        reason = format_rejections(summary.stage_counts) or 'no sweep'
        raise CommandError(f'{arguments.input}: no depth; {reason}')
    return 0


def _print(arguments: argparse.Namespace, summary: ProcessingSummary) -> None:
    assert summary.stage_counts is not None
    rate = summary.sweeps_per_second
    if arguments.json:
        document = {
            'input': str(arguments.input),
            'output': str(arguments.output),
            'messages': summary.messages,
            'sweeps': summary.sweeps,
            'depths': summary.depths,
            'seconds': round(summary.seconds, 3),
            'bag_seconds': round(summary.bag_seconds, 3),
            'sweeps_per_second': round(rate, 3),
            'rejected': {r.reason: r.count for r in summary.stage_counts.rejections},
        }
        echo_json(document)
        return
    speed = summary.bag_seconds / summary.seconds if summary.seconds > 0.0 else 0.0
    echo(
        f'{summary.depths} depth images of {summary.sweeps} sweeps in {summary.seconds:.1f} s: '
        f'{rate:.2f} sweeps/s, {speed:.2f} times as fast as recorded'
    )
    rejections = format_rejections(summary.stage_counts)
    if rejections:
        echo(f'rejected: {rejections}')
    echo(f'written to {arguments.output}')
