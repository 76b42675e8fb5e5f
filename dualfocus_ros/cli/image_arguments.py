# SPDX-License-Identifier: Apache-2.0
"""Arguments of calibrations: a bag or folder of images with their focus."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dualfocus_ros.calibration.target_images import FocusImage, Region
from dualfocus_ros.cli.arguments import add_number
from dualfocus_ros.cli.bag_arguments import add_topic_arguments, open_bag, topic_options
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.cli.focus_arguments import read_numbers
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError, ConfigError, UsageError

if TYPE_CHECKING:
    from dualfocus_ros.calibration.lens_tracking import LensCommand

_BAG_MODULE = 'dualfocus_ros.nodes.offline.calibration_bag'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of all calibrations from images."""
    group = parser.add_argument_group('images')
    group.add_argument(
        '--region',
        type=_region,
        metavar='X,Y,W,H',
        help='part of the image that the target fills, in pixels',
    )
    group.add_argument(
        '--response',
        choices=('auto', 'srgb', 'linear'),
        default='auto',
        help='relation of values to light; auto: linear for mono and bayer images of a bag, else '
        'sRGB',
    )
    group.add_argument(
        '--values',
        nargs='+',
        metavar='N',
        help='focus of each image of a folder in natural order, in dioptres (for calibrate focus '
        'the lens position), or a text file of them; default: the last number in each file name',
    )
    rest = 'seconds of motion after each change of focus, without reports of motion'
    add_number(group, '--rest', 'S', 0.5, rest)
    add_topic_arguments(parser)


def read_images(
    path: Path,
    arguments: argparse.Namespace,
    unit: Literal['dioptres', 'position'] = 'dioptres',
) -> Iterator[FocusImage]:
    """Yield the images of a bag or a folder with their focus, with a progress bar.

    :param unit: of the focus of a folder's images.
    :raises CommandError: if the path does not exist.
    :raises ValueError: without usable images.
    """
    if not path.exists():
        raise CommandError(f'{path} does not exist: give a bag or a folder of images')
    if not _is_bag(path):
        from dualfocus_ros.calibration.target_images import read_image_folder

        words, linear = arguments.values, arguments.response == 'linear'
        values = None if words is None else read_numbers(words, '--values')
        with progress_bar('reading') as bar:
            try:
                yield from read_image_folder(path, unit, values, linear, bar.update)
            except ConfigError as error:
                raise UsageError(f'--{error}') from None
        return
    require_ros(_BAG_MODULE)
    from dualfocus_ros.nodes.offline.calibration_bag import image_count, read_focus_images

    topics = topic_options(arguments)
    with (
        open_bag(path) as bag,
        progress_bar('reading', total=image_count(bag, topics)) as bar,
    ):
        yield from read_focus_images(bag, topics, arguments.response, arguments.rest, bar.update)


def read_commands(path: Path) -> tuple[list[LensCommand], str | None]:
    """Return the focus commands of a bag, and its focus source."""
    require_ros(_BAG_MODULE)
    from dualfocus_ros.nodes.offline.calibration_bag import read_lens_commands

    with open_bag(path) as bag:
        return read_lens_commands(bag)


def principal_point(path: Path, arguments: argparse.Namespace) -> tuple[float, float] | None:
    """Return the principal point in the camera_info of a bag; None without any."""
    if not path.exists() or not _is_bag(path):
        return None
    require_ros(_BAG_MODULE)
    from dualfocus_ros.nodes.offline.calibration_bag import read_principal_point

    with open_bag(path) as bag:
        return read_principal_point(bag, topic_options(arguments))


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return True
    suffixes = {suffix for child in path.iterdir() for suffix in child.suffixes}
    return bool(suffixes & {'.mcap', '.db3'}) or (path / 'metadata.yaml').exists()


def _region(text: str) -> Region:
    try:
        x, y, width, height = (int(word) for word in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'expected X,Y,W,H: four whole numbers of pixels, got {text!r}'
        ) from None
    return Region(x, y, width, height)
