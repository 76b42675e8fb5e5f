# SPDX-License-Identifier: Apache-2.0
"""Bags in commands: opening, and options for the topics of the depth node's inputs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import logging
from pathlib import Path

from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.nodes.offline.bag_inputs import TopicOptions, absolute_name
from dualfocus_ros.sweep.stage_counter import StageCounts

logger = logging.getLogger(__name__)


@contextmanager
def open_bag(path: Path) -> Iterator[BagReader]:
    """Open a bag and log its problems.

    :raises CommandError: if it cannot be read.
    """
    try:
        with BagReader(path) as bag:
            for problem in bag.problems:
                logger.warning('%s', problem)
            yield bag
    except BagError as error:
        raise CommandError(str(error)) from error


def add_topic_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group('topics (by default found by their types)')
    group.add_argument(
        '-r',
        '--remap',
        action='append',
        default=[],
        metavar='FROM:=TO',
        help='name of the node := name in the bag; for outputs, the name to write',
    )
    group.add_argument('--image-topic', metavar='TOPIC', help='images, if there are several')
    group.add_argument('--camera-info-topic', metavar='TOPIC', help='calibration of the images')
    group.add_argument('--focus-topic', metavar='TOPIC', help='FocusState, metadata or command')


def topic_options(arguments: argparse.Namespace) -> TopicOptions:
    """Return the topics that the options name.

    :raises UsageError: for a malformed ``--remap``.
    """
    return TopicOptions(
        parse_remaps(arguments.remap),
        arguments.image_topic,
        arguments.camera_info_topic,
        arguments.focus_topic,
    )


def parse_remaps(words: Sequence[str]) -> dict[str, str]:
    """Return absolute target name by absolute source name of ``FROM:=TO`` words.

    :raises UsageError: for any other form.
    """
    remap = {}
    for text in words:
        source, separator, target = text.partition(':=')
        if not separator or not source or not target:
            raise UsageError(f'--remap takes FROM:=TO, got {text!r}')
        remap[absolute_name(source)] = absolute_name(target)
    return remap


def format_rejections(counts: StageCounts) -> str:
    """Return the count and the last case of each reason; empty without rejections."""
    return '; '.join(
        f'{r.count} not {r.stage.value}: {r.reason} ({r.text})' for r in counts.rejections
    )
