# SPDX-License-Identifier: Apache-2.0
"""Images with the focus that they were taken at, from a bag or from a folder of image files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
import logging
import math
from pathlib import Path
import re
from typing import Any

import numpy as np
from tqdm import tqdm

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.calibration.settling import LensCommand
from dualfocus_ros.calibration.target_images import FocusImage, Region
from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.cli.bag_arguments import add_topic_arguments, open_bag, topic_options
from dualfocus_ros.cli.focus_arguments import find_images, read_numbers
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.io.stack_files import read_stack_image, to_uint8
from dualfocus_ros.nodes.bag_inputs import find_inputs
from dualfocus_ros.nodes.lens_messages import frame_metadata, lens_position, plane_target_from_msg
from dualfocus_ros.nodes.parameter_reader import read_parameters
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)
from dualfocus_ros.topics import COMPRESSED_IMAGE, FOCUS_COMMAND, FOCUS_SOURCES

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r'-?\d+(?:\.\d+)?')
# Industrial cameras send these, with values proportional to light; colour is encoded as sRGB.
_LINEAR = ('mono', 'bayer', '8UC1', '16UC1')


@dataclass(frozen=True)
class FocusReading:
    """What the focus topic of a bag says about one image."""

    dioptres: float
    position: float
    moving: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what all calibrations from images take."""
    group = parser.add_argument_group('images')
    group.add_argument(
        '--region', metavar='X,Y,W,H', help='part of the image that the target fills, in pixels'
    )
    group.add_argument(
        '--response',
        choices=('auto', 'srgb', 'linear'),
        default='auto',
        help='how values follow light; auto: linear for mono and bayer images of a bag, sRGB for '
        'all others',
    )
    group.add_argument(
        '--values',
        nargs='+',
        metavar='N',
        help='of a folder of images in natural order: the focus in dioptres (the lens position '
        'for calibrate focus) of each, or a text file of them; by default the last number in the '
        'name of each file',
    )
    group.add_argument(
        '--rest',
        type=float,
        default=0.5,
        metavar='S',
        help='seconds that the lens is given after each change where nothing reports that it '
        'moves (default: 0.5)',
    )
    add_topic_arguments(parser)


def region(arguments: argparse.Namespace) -> Region | None:
    """Return the region that the user gave."""
    if arguments.region is None:
        return None
    try:
        x, y, width, height = (int(word) for word in arguments.region.split(','))
    except ValueError:
        raise UsageError(
            f'--region takes X,Y,W,H: four whole numbers of pixels, got {arguments.region!r}'
        ) from None
    return Region(x, y, width, height)


def read_frames(
    path: Path, arguments: argparse.Namespace, focus: str = 'dioptres'
) -> Iterator[FocusImage]:
    """Yield the images of a bag or a folder whose focus is known, with a progress bar.

    :param focus: what the numbers of a folder are: ``dioptres`` or ``position``.
    :raises CommandError: if there are none.
    """
    if not path.exists():
        raise CommandError(f'{path} does not exist: give a bag or a folder of images')
    if _is_bag(path):
        with open_bag(path) as bag:
            yield from _bag_frames(bag, arguments)
    else:
        yield from _folder_frames(path, arguments, focus)


def read_commands(path: Path) -> tuple[list[LensCommand], str | None]:
    """Return the focus commands of a bag, and its focus source (``topics.FOCUS_SOURCES``)."""
    with open_bag(path) as bag:
        named = [
            t.name for t in bag.topics.values() if t.message_type == FOCUS_COMMAND.message_type
        ]
        if len(named) > 1:
            raise UsageError(
                f'{path} has several topics of commands, {", ".join(named)}: record one camera'
            )
        kinds = {t.message_type for t in bag.topics.values()}
        source = next((s for s, t in FOCUS_SOURCES.items() if t.message_type in kinds), None)
        orders = [
            LensCommand(
                to_ns(m.message.header.stamp) or m.stamp_ns, float(m.message.focus_dioptres)
            )
            for m in (bag.messages(named) if named else ())
        ]
    finite = [order for order in orders if math.isfinite(order.dioptres)]
    return sorted(finite, key=lambda order: order.stamp_ns), source


def camera_centre(path: Path, arguments: argparse.Namespace) -> tuple[float, float] | None:
    """Return the principal point that the camera_info of a bag tells; None where there is none."""
    if not _is_bag(path):
        return None
    with open_bag(path) as bag:
        topic = _inputs(bag, arguments).camera_info
        if topic is None:
            return None
        for message in bag.messages([topic]):
            k = message.message.k
            if k[0] > 0.0 and message.message.width:
                return float(k[2]), float(k[5])
    return None


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return True
    suffixes = {suffix for child in path.iterdir() for suffix in child.suffixes}
    return bool(suffixes & {'.mcap', '.db3'}) or (path / 'metadata.yaml').exists()


def _folder_frames(
    folder: Path, arguments: argparse.Namespace, focus: str
) -> Iterator[FocusImage]:
    paths = find_images([str(folder)])
    if arguments.values is not None:
        numbers = read_numbers(arguments.values, '--values')
        if len(numbers) != len(paths):
            raise UsageError(
                f'--values: {len(numbers)} numbers for {len(paths)} images of {folder}'
            )
    else:
        numbers = []
        for path in paths:
            found = _NUMBER.findall(path.stem)
            if not found:
                raise UsageError(
                    f'{path} has no number in its name: name each image by its focus, such as '
                    'focus_1.25.png, or give --values'
                )
            numbers.append(float(found[-1]))
    for path, number in zip(_bar(paths, len(paths)), numbers, strict=True):
        pixels = to_uint8([read_stack_image(path).pixels])[0]
        linear = arguments.response == 'linear'
        if focus == 'position':
            yield FocusImage(pixels, position=number, linear=linear)
        else:
            yield FocusImage(pixels, dioptres=number, linear=linear)


def _inputs(bag: BagReader, arguments: argparse.Namespace) -> Any:
    return find_inputs(bag, read_parameters(), topic_options(arguments))


def _bag_frames(bag: BagReader, arguments: argparse.Namespace) -> Iterator[FocusImage]:
    require_ros('dualfocus_ros.nodes.input_messages')
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage, Image

    from dualfocus_ros.nodes.compressed_images import compressed_to_array
    from dualfocus_ros.nodes.message_checks import MessageError
    from dualfocus_ros.nodes.raw_images import image_to_array
    from dualfocus_ros.stamps import to_ns

    inputs = _inputs(bag, arguments)
    if inputs.missing or inputs.image is None:
        raise CommandError(f'{bag.path}: {"; ".join(inputs.missing) or "no images"}')
    if inputs.settings.input != 'sweep':
        raise CommandError(f'{bag.path} holds whole stacks: record single images and their focus')
    source = inputs.settings.focus_source
    topic = inputs.remap[f'/{FOCUS_SOURCES[source].name}']
    reading = _readings(bag, source, topic, arguments.rest)
    kind = bag.topics[inputs.image]
    compressed = kind.message_type == COMPRESSED_IMAGE
    convert: Callable[[Any, int], np.ndarray] = (
        compressed_to_array if compressed else image_to_array
    )
    unpaired = refused = used = 0
    for message in _bar(bag.messages([inputs.image]), kind.count):
        decoded = deserialize_message(message.data, CompressedImage if compressed else Image)
        stamp = to_ns(decoded.header.stamp)
        known = reading(stamp)
        if known is None:
            unpaired += 1
            continue
        try:
            pixels = convert(decoded, inputs.settings.max_pixels)
        except MessageError as error:
            refused += 1
            logger.debug('%s', error)
            continue
        linear = arguments.response == 'linear' or (
            arguments.response == 'auto'
            and not compressed
            and decoded.encoding.startswith(_LINEAR)
        )
        used += 1
        yield FocusImage(pixels, known.dioptres, known.position, stamp, known.moving, linear)
    if unpaired or refused:
        logger.warning(
            '%s: %d images without a focus of their stamp, %d that cannot be decoded',
            bag.path,
            unpaired,
            refused,
        )
    if not used:
        raise CommandError(
            f'{bag.path} has no image on {inputs.image} whose focus {topic} tells: the stamps '
            'must be equal'
        )


def _readings(
    bag: BagReader, source: str, topic: str, rest: float
) -> Callable[[int], FocusReading | None]:
    """Return what tells the focus of the image with a stamp, called in the order of stamps."""
    model = SettlingModel(0, rest)
    if source == 'command':
        commands = CommandFocusSource(model)
        # All commands at once: there may be more than the node keeps.
        waiting = [plane_target_from_msg(m.message, m.stamp_ns) for m in bag.messages([topic])]

        def commanded(stamp: int) -> FocusReading | None:
            while waiting and waiting[0].stamp_ns <= stamp:
                commands.add_command(waiting.pop(0))
            reading = commands.reading(stamp)
            if reading is None or not math.isfinite(reading.dioptres):
                return None
            return FocusReading(reading.dioptres, reading.dioptres, reading.moving)

        return commanded
    known: dict[int, FocusReading] = {}
    reported = PositionFocusSource(model)
    for message in bag.messages([topic]):
        content = message.message
        stamp = to_ns(content.header.stamp)
        if source == 'focus_state':
            moving = content.state in (LensState.MOVING, LensState.FAULT)
            known[stamp] = FocusReading(
                float(content.focus_dioptres), float(content.lens_position), moving
            )
            continue
        dioptres = lens_position(frame_metadata(content))
        if dioptres is not None and math.isfinite(dioptres):
            moving = reported.reading(stamp, dioptres).moving
            known[stamp] = FocusReading(dioptres, dioptres, moving)
    return known.get


def _bar(items: Any, total: int) -> Any:
    quiet = not logger.isEnabledFor(logging.INFO)
    return tqdm(
        items,
        total=total,
        unit='image',
        desc='reading',
        leave=False,
        disable=True if quiet else None,
    )
