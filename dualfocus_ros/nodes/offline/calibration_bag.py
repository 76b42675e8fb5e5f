# SPDX-License-Identifier: Apache-2.0
"""Bags of calibrations: images with their focus, focus commands and principal point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import logging
import math
from typing import Literal

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.calibration.lens_tracking import LensCommand
from dualfocus_ros.calibration.target_images import FocusImage
from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.exceptions import DataError, UsageError
from dualfocus_ros.nodes.messages.image_decoding import (
    MessageError,
    compressed_to_array,
    image_to_array,
)
from dualfocus_ros.nodes.messages.lens_messages import (
    frame_metadata,
    lens_position,
    plane_target_from_msg,
)
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs, TopicOptions, find_inputs
from dualfocus_ros.nodes.parameters.parameter_reader import read_parameters
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)
from dualfocus_ros.topics import COMPRESSED_IMAGE, FOCUS_COMMAND, FOCUS_SOURCES

logger = logging.getLogger(__name__)

# Industrial cameras use these, with values proportional to light; colour is encoded as sRGB.
_LINEAR_ENCODINGS = ('mono', 'bayer', '8UC1', '16UC1')


@dataclass(frozen=True)
class _FocusReading:
    dioptres: float
    position: float
    moving: bool


def image_count(bag: BagReader, topics: TopicOptions) -> int:
    """Return the number of images that :func:`read_focus_images` reads."""
    topic, _ = _image_topic(bag, topics)
    return bag.topics[topic].count


def read_focus_images(
    bag: BagReader,
    topics: TopicOptions,
    response: Literal['auto', 'srgb', 'linear'],
    rest: float,
    progress: Callable[[], object],
) -> Iterator[FocusImage]:
    """Yield the images of a bag whose focus is known.

    :param response: ``linear``, ``srgb``, or ``auto``: linear for mono and bayer images.
    :param rest: seconds of motion after each change of focus, without reports of motion.
    :param progress: called once per image.
    :raises DataError: for a bag without images, focus or equal stamps.
    """
    image_topic, inputs = _image_topic(bag, topics)
    source = inputs.settings.focus_source
    focus_topic = inputs.remap[f'/{FOCUS_SOURCES[source].name}']
    reading_of = _focus_readings(bag, source, focus_topic, rest)
    compressed = bag.topics[image_topic].message_type == COMPRESSED_IMAGE
    kind, convert = (
        (CompressedImage, compressed_to_array) if compressed else (Image, image_to_array)
    )
    unpaired = undecodable = used = 0
    for message in bag.messages([image_topic]):
        progress()
        decoded = deserialize_message(message.data, kind)
        stamp = to_ns(decoded.header.stamp)
        reading = reading_of(stamp)
        if reading is None:
            unpaired += 1
            continue
        try:
            pixels = convert(decoded, inputs.settings.max_pixels)
        except MessageError as error:
            undecodable += 1
            logger.debug('%s', error)
            continue
        linear = response == 'linear' or (
            response == 'auto'
            and not compressed
            and decoded.encoding.startswith(_LINEAR_ENCODINGS)
        )
        used += 1
        yield FocusImage(pixels, reading.dioptres, reading.position, stamp, reading.moving, linear)
    if unpaired or undecodable:
        logger.warning(
            '%s: skipped %d images without a focus of the same stamp and %d undecodable ones',
            bag.path,
            unpaired,
            undecodable,
        )
    if not used:
        raise DataError(
            f'{bag.path}: no image on {image_topic} has a focus on {focus_topic}: the stamps must '
            'be equal'
        )


def read_lens_commands(bag: BagReader) -> tuple[list[LensCommand], str | None]:
    """Return the finite focus commands of a bag and its focus source.

    :returns: commands in order of time; key of :data:`~dualfocus_ros.topics.FOCUS_SOURCES`, or
        None without focus.
    :raises UsageError: for commands on several topics.
    """
    types = {name: topic.message_type for name, topic in bag.topics.items()}
    topics = [name for name, kind in types.items() if kind == FOCUS_COMMAND.message_type]
    if len(topics) > 1:
        raise UsageError(
            f'{bag.path} has several topics of commands, {", ".join(topics)}: record one camera'
        )
    source = next((s for s, t in FOCUS_SOURCES.items() if t.message_type in types.values()), None)
    commands = [
        LensCommand(to_ns(m.message.header.stamp) or m.stamp_ns, float(m.message.focus_dioptres))
        for m in (bag.messages(topics) if topics else ())
        if math.isfinite(m.message.focus_dioptres)
    ]
    return sorted(commands, key=lambda command: command.stamp_ns), source


def read_principal_point(bag: BagReader, topics: TopicOptions) -> tuple[float, float] | None:
    """Return the principal point of the first valid camera_info; None without any."""
    topic = find_inputs(bag, read_parameters(), topics).camera_info
    if topic is None:
        return None
    for message in bag.messages([topic]):
        k = message.message.k
        if k[0] > 0.0 and message.message.width:
            return float(k[2]), float(k[5])
    return None


def _image_topic(bag: BagReader, topics: TopicOptions) -> tuple[str, BagInputs]:
    inputs = find_inputs(bag, read_parameters(), topics)
    if inputs.missing or inputs.image is None:
        raise DataError(f'{bag.path}: {"; ".join(inputs.missing) or "no images"}')
    if inputs.settings.input != 'sweep':
        raise DataError(f'{bag.path} has whole stacks: record single images and their focus')
    return inputs.image, inputs


def _focus_readings(
    bag: BagReader, source: str, topic: str, rest: float
) -> Callable[[int], _FocusReading | None]:
    """Return a function from stamps, in increasing order, to the focus at that time."""
    model = SettlingModel(0, rest)
    if source == 'command':
        commands = CommandFocusSource(model)
        # All commands at once: a bag may have more than the node buffers.
        waiting = [plane_target_from_msg(m.message, m.stamp_ns) for m in bag.messages([topic])]

        def commanded(stamp: int) -> _FocusReading | None:
            while waiting and waiting[0].stamp_ns <= stamp:
                commands.add_command(waiting.pop(0))
            reading = commands.reading(stamp)
            if reading is None or not math.isfinite(reading.dioptres):
                return None
            return _FocusReading(reading.dioptres, reading.dioptres, reading.moving)

        return commanded
    known: dict[int, _FocusReading] = {}
    reported = PositionFocusSource(model)
    for message in bag.messages([topic]):
        content = message.message
        stamp = to_ns(content.header.stamp)
        if source == 'focus_state':
            moving = content.state in (LensState.MOVING, LensState.FAULT)
            known[stamp] = _FocusReading(
                float(content.focus_dioptres), float(content.lens_position), moving
            )
            continue
        dioptres = lens_position(frame_metadata(content))
        if dioptres is not None and math.isfinite(dioptres):
            moving = reported.reading(stamp, dioptres).moving
            known[stamp] = _FocusReading(dioptres, dioptres, moving)
    return known.get
