# SPDX-License-Identifier: Apache-2.0
"""What the commands that read bags share: opening one, what needs ROS, reasons in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
import logging
from pathlib import Path
from typing import Any

from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.bags.topic_summary import COMPRESSED
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.sweep.stage_counter import StageCounts

logger = logging.getLogger(__name__)


@contextmanager
def open_bag(path: Path) -> Iterator[BagReader]:
    """Open a bag and say what is wrong with it.

    :raises CommandError: if it cannot be read.
    """
    try:
        with BagReader(path) as bag:
            for problem in bag.problems:
                logger.warning('%s', problem)
            yield bag
    except BagError as error:
        raise CommandError(str(error)) from error


def require_offline_node() -> None:
    """Import what turns messages into depth.

    :raises CommandError: if the message classes or rclpy are not there.
    """
    require_ros('dualfocus_ros.nodes.offline')


def require_ros(module: str) -> None:
    """Import a module that needs ROS.

    :raises CommandError: with what to do, if ROS is not there.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise CommandError(
            f'this needs the message classes and rclpy, which cannot be imported ({error}): '
            'source activate.sh (or the setup file of your ROS distribution and of the workspace)'
        ) from error


def image_checker(max_pixels: int) -> Callable[[str, Any], str | None] | None:
    """Return what tells, of a message type and an image, why the depth node would refuse it.

    None where the message classes are not there.
    """
    try:
        from dualfocus_ros.nodes.compressed_images import encoded_size
        from dualfocus_ros.nodes.message_checks import MessageError
        from dualfocus_ros.nodes.raw_images import check_image
    except ImportError:
        return None

    def check(message_type: str, image: Any) -> str | None:
        if message_type == COMPRESSED:
            if encoded_size(image.data) is None:
                return f'undecodable, {image.format!r} that is neither JPEG nor PNG'
            return None
        try:
            check_image(image, max_pixels)
        except MessageError as error:
            return f'{error.reason}, {error}'
        return None

    return check


def rejections_in_words(stage_counter: StageCounts) -> str:
    """Return counts and the last case of each reason; empty if nothing was rejected."""
    return '; '.join(
        f'{r.count} not {r.stage.value}: {r.reason} ({r.text})' for r in stage_counter.rejections
    )
