# SPDX-License-Identifier: Apache-2.0
"""``dualfocus record``: record live topics into an MCAP bag, without ``ros2 bag``."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path
import threading

from dualfocus_ros.bags.recorder import TopicSelection, record
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.arguments import add_json_argument, positive
from dualfocus_ros.cli.bag_arguments import check_new_bag
from dualfocus_ros.cli.console import echo, echo_json, progress_bar
from dualfocus_ros.cli.ros_environment import live_node
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.nodes.offline.bag_inputs import absolute_name

# No space on the disk, in the quota, or in one file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('output', type=Path, metavar='OUT', help='folder to create for the bag')
    parser.add_argument(
        '--outputs', action='store_true', help='record outputs of the depth node too'
    )
    parser.add_argument('--camera', metavar='PREFIX', help='namespace of inputs, such as /camera')
    parser.add_argument(
        '--image-transport',
        choices=['raw', 'compressed', 'both'],
        default='raw',
        help='images to record (default raw)',
    )
    parser.add_argument('--topics', nargs='+', metavar='TOPIC', help='record only these topics')
    parser.add_argument(
        '--duration', type=positive, metavar='S', help='stop after this many seconds'
    )
    parser.add_argument(
        '--wait',
        type=positive,
        default=0.0,
        metavar='S',
        help='start the duration at the first image, waiting at most this many seconds',
    )
    parser.add_argument('--compress', action='store_true', help='compress chunks with zstd')
    parser.add_argument(
        '--use-sim-time', action='store_true', help='stamp messages by /clock, as of a replay'
    )
    add_json_argument(parser)
    parser.epilog = (
        'Topics are found by name and type, also those that appear later. Ctrl-C ends the '
        'recording. After a crash all but about the last second is readable: dualfocus inspect, '
        'dualfocus process, or ros2 bag reindex.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Record until Ctrl-C or the end of the duration; fail if no message arrives."""
    check_new_bag(arguments.output)
    topics = frozenset(map(absolute_name, arguments.topics)) if arguments.topics else None
    prefix = absolute_name(arguments.camera) if arguments.camera else ''
    selection = TopicSelection(topics, prefix, arguments.outputs, arguments.image_transport)
    stop = threading.Event()
    writer = BagWriter(arguments.output, compress=arguments.compress)
    try:
        with (
            live_node('dualfocus_record', stop.set, use_sim_time=arguments.use_sim_time) as node,
            writer,
            progress_bar('recording', unit='msg', leave=True) as bar,
        ):

            def show(messages: int) -> None:
                bar.set_postfix_str(f'{writer.bytes_written / 1e6:.1f} MB', refresh=False)
                bar.update(messages - bar.n)

            record(
                node,
                writer,
                selection,
                stop,
                duration=arguments.duration,
                image_timeout=arguments.wait,
                on_progress=show,
            )
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise CommandError(
            f'no room left for {arguments.output} ({error.strerror}): the recording has ended '
            f'after {sum(writer.counts.values())} messages. All but the last second is readable; '
            'free space and record again, or record less (--topics, --compress)'
        ) from error
    total = sum(writer.counts.values())
    if arguments.json:
        sizes = {'messages': total, 'bytes': writer.bytes_written, 'topics': writer.counts}
        echo_json({'output': str(arguments.output), **sizes})
    else:
        echo(f'{total} messages, {writer.bytes_written / 1e6:.1f} MB: {arguments.output}')
    if total == 0:
        raise CommandError(
            'no message arrived on ' + (', '.join(sorted(writer.counts)) or 'any selected topic')
        )
    return 0
