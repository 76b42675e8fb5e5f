# SPDX-License-Identifier: Apache-2.0
"""``dualfocus record``: live topics into an MCAP bag, without ``ros2 bag``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
import errno
import json
import logging
from pathlib import Path
import threading
import time
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.bags.split_writer import SplitBagWriter
from dualfocus_ros.cli.bag_topics import absolute_name
from dualfocus_ros.cli.console import echo
from dualfocus_ros.cli.live_node import live_node
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.topics import (
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    FOCAL_STACK,
    IMAGE,
    RECORDED_OUTPUTS,
    SWEEP_INPUTS,
)

logger = logging.getLogger(__name__)

# Topics by name, with their types.
INPUTS = {topic.name: topic.message_type for topic in (*SWEEP_INPUTS, FOCAL_STACK)}
OUTPUTS = {topic.name: topic.message_type for topic in RECORDED_OUTPUTS}
_FLUSH_SECONDS = 1.0
# The disk, the quota, or what one file may have.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class TopicSelection:
    """Which topics are recorded.

    :param topics: these; None for all that are named and typed as below.
    :param prefix: only inputs under this name, such as ``/camera``; empty for any.
    :param outputs: what the depth node publishes, too.
    :param transport: ``raw`` or ``compressed`` images, or ``both``.
    """

    topics: frozenset[str] | None
    prefix: str
    outputs: bool
    transport: str

    def takes(self, name: str, message_type: str) -> bool:
        """Whether a topic is recorded."""
        if self.topics is not None:
            return name in self.topics
        if self.outputs and (_named(name, message_type, OUTPUTS) or name == DIAGNOSTICS):
            return True
        if self.prefix and not name.startswith(f'{self.prefix}/'):
            return False
        if _named(name, message_type, OUTPUTS) or not _named(name, message_type, INPUTS):
            return False
        left_out = {'raw': COMPRESSED_IMAGE, 'compressed': IMAGE}.get(self.transport)
        return message_type != left_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('output', type=Path, metavar='OUT', help='folder to create for the bag')
    parser.add_argument(
        '--outputs', action='store_true', help='record what the depth node publishes, too'
    )
    parser.add_argument('--camera', metavar='PREFIX', help='only inputs under it, such as /camera')
    parser.add_argument(
        '--image-transport',
        choices=['raw', 'compressed', 'both'],
        default='raw',
        help='which images (default raw)',
    )
    parser.add_argument('--topics', nargs='+', metavar='TOPIC', help='record these and no others')
    parser.add_argument('--duration', type=float, metavar='S', help='stop after so many seconds')
    parser.add_argument(
        '--wait',
        type=float,
        metavar='S',
        help='the duration counts from the first image, for which it waits so many seconds',
    )
    parser.add_argument(
        '--split-size', type=float, metavar='MB', help='begin a new file after so many megabytes'
    )
    parser.add_argument(
        '--split-duration', type=float, metavar='S', help='begin a new file after so many seconds'
    )
    parser.add_argument('--compress', action='store_true', help='compress chunks with zstd')
    parser.add_argument(
        '--use-sim-time', action='store_true', help='stamp messages by /clock, as of a replay'
    )
    parser.add_argument('--json', action='store_true', help='print the summary as JSON')
    parser.epilog = (
        'Topics are found by name and type, also those that appear later. Ctrl-C ends the '
        'recording. What a crash leaves is readable up to the last second or so: dualfocus '
        'inspect, dualfocus process, or ros2 bag reindex.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Record until Ctrl-C or the duration; 1 if nothing came."""
    for name in ('duration', 'wait', 'split_size', 'split_duration'):
        value = getattr(arguments, name)
        if value is not None and not value > 0.0:
            raise UsageError(f'--{name.replace("_", "-")} must be more than 0, got {value:g}')
    if arguments.output.exists():
        raise UsageError(f'{arguments.output} exists already: remove it or choose another name')
    selection = TopicSelection(
        None if not arguments.topics else frozenset(absolute_name(t) for t in arguments.topics),
        absolute_name(arguments.camera) if arguments.camera else '',
        arguments.outputs,
        arguments.image_transport,
    )
    stop = threading.Event()
    writer = SplitBagWriter(
        arguments.output,
        compress=arguments.compress,
        max_bytes=round((arguments.split_size or 0.0) * 1e6),
        max_ns=round((arguments.split_duration or 0.0) * 1e9),
    )
    try:
        with (
            live_node('dualfocus_record', stop.set, use_sim_time=arguments.use_sim_time) as node,
            writer,
        ):
            _record(node, writer, selection, stop, arguments.duration, arguments.wait or 0.0)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise CommandError(
            f'no room left for {arguments.output} ({error.strerror}): the recording has ended '
            f'after {sum(writer.counts.values())} messages. All but the last second can be read; '
            'make room and record anew, or record less (--topics, --compress)'
        ) from error
    total = sum(writer.counts.values())
    if arguments.json:
        echo(
            json.dumps(
                {
                    'output': str(arguments.output),
                    'messages': total,
                    'files': writer.files,
                    'bytes': writer.bytes_written,
                    'topics': writer.counts,
                },
                indent=2,
            )
        )
    else:
        echo(
            f'{total} messages, {writer.bytes_written / 1e6:.1f} MB, {writer.files} files: '
            f'{arguments.output}'
        )
    if total == 0:
        raise CommandError(
            'nothing came on '
            + (', '.join(sorted(writer.counts)) or 'any topic that is asked for')
        )
    return 0


def _record(
    node: Any,
    writer: SplitBagWriter,
    selection: TopicSelection,
    stop: threading.Event,
    duration: float | None,
    wait: float,
) -> None:
    """Receive and write, on this thread alone, until told to stop."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = TopicRecorder(node, {}, writer)
    refused: set[str] = set()
    began = time.monotonic()
    waiting = wait > 0.0
    looked = flushed = -1e9
    quiet = not logger.isEnabledFor(logging.INFO)
    try:
        with tqdm(unit='msg', desc='recording', disable=True if quiet else None) as bar:
            while not stop.is_set():
                now = time.monotonic()
                if waiting:
                    waiting = now - began < wait and not _has_images(recorder)
                    began = began if waiting else now
                elif duration is not None and now - began >= duration:
                    break
                if now - looked > 0.2:
                    looked = now
                    _look(node, recorder, selection, refused)
                executor.spin_once(timeout_sec=0.1)
                bar.update(sum(recorder.counts.values()) - bar.n)
                if now - flushed > _FLUSH_SECONDS:
                    flushed = now
                    writer.flush()
                    bar.set_postfix_str(f'{writer.bytes_written / 1e6:.1f} MB', refresh=False)
    finally:
        recorder.close()
        executor.shutdown()


def _has_images(recorder: TopicRecorder) -> bool:
    return any(
        count
        for name, count in recorder.counts.items()
        if name.removesuffix('/compressed').endswith('/image_raw')
    )


def _look(
    node: Any, recorder: TopicRecorder, selection: TopicSelection, refused: set[str]
) -> None:
    """Record the topics that have appeared."""
    for name, types in node.get_topic_names_and_types():
        if name in recorder.counts or name in refused or not selection.takes(name, types[0]):
            continue
        try:
            message_class = import_message_class(types[0])
        except ImportError:
            refused.add(name)
            logger.warning('%s is not recorded: no message class %s', name, types[0])
            continue
        recorder.add(name, message_class)
    for topic in recorder.discover_new():
        logger.info('recording %s', topic)


def _named(name: str, message_type: str, known: dict[str, str]) -> bool:
    return any(
        name.endswith(f'/{ending}') and message_type == kind for ending, kind in known.items()
    )
