# SPDX-License-Identifier: Apache-2.0
"""Inspect a bag: topics, the sweeps that the depth node would find, and rejections.

Topics and stamps need no ROS; sweeps are found by the code of the depth node, without the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
import math
from typing import Any

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.topic_summary import TopicSummary, has_header
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs, is_output_topic
from dualfocus_ros.sweep.stage_counter import StageCounts
from dualfocus_ros.topics import COMPRESSED_IMAGE


@dataclass(frozen=True)
class SweepSummary:
    """A sweep for which the depth node would compute depth."""

    sweep_id: int
    start_ns: int
    seconds: float
    focus_dioptres: tuple[float, ...]
    flags: tuple[str, ...]


@dataclass
class BagInspection:
    """Contents of a bag.

    :param missing: inputs without which no sweep can be found, as text.
    :param stage_counts: frames by stage and rejections; None if no sweep can be found.
    """

    seconds: float
    problems: list[str]
    inputs: BagInputs | None
    missing: list[str]
    topics: dict[str, TopicSummary] = field(default_factory=dict)
    sweeps: list[SweepSummary] = field(default_factory=list)
    stage_counts: StageCounts | None = None

    @property
    def focus_histogram(self) -> list[tuple[tuple[float, str], int]]:
        """Counts by focus in dioptres and lens state, as reported; else as used in the sweeps."""
        counts: Counter[tuple[float, str]] = Counter()
        for topic in self.topics.values():
            counts.update(topic.focus)
        if not counts:
            for sweep in self.sweeps:
                counts.update((round(focus, 2), 'used') for focus in sweep.focus_dioptres)
        return sorted(counts.items(), key=lambda item: (math.isnan(item[0][0]), item[0]))

    def as_dict(self) -> dict[str, Any]:
        """Return the contents for JSON."""
        inputs = None
        if self.inputs is not None and not self.missing:
            inputs = {
                'input': self.inputs.settings.input,
                'focus_source': self.inputs.settings.focus_source,
                'image': self.inputs.image,
                'camera_info': self.inputs.camera_info,
                'remap': self.inputs.remap,
            }
        counts = self.stage_counts or StageCounts({}, ())
        return {
            'seconds': self.seconds,
            'problems': self.problems,
            'topics': {name: topic.as_dict() for name, topic in self.topics.items()},
            'inputs': inputs,
            'missing': self.missing,
            'sweeps': [asdict(sweep) for sweep in self.sweeps],
            'focus_histogram': [
                {
                    'focus_dioptres': None if math.isnan(focus) else focus,
                    'state': state,
                    'count': count,
                }
                for (focus, state), count in self.focus_histogram
            ],
            'funnel': {stage.value: count for stage, count in counts.counts.items()},
            'rejected': [
                {'stage': r.stage.value, 'reason': r.reason, 'count': r.count, 'last': r.text}
                for r in counts.rejections
            ],
        }


def inspect_bag(
    bag: BagReader,
    inputs: BagInputs | None,
    missing: list[str],
    *,
    max_pixels: int,
    camera: Any,
    on_stack: Callable[[FocalStack], None],
    on_message: Callable[[], object],
) -> BagInspection:
    """Read a bag once and return its contents.

    :param inputs: inputs of the depth node; None if they are not known.
    :param missing: reasons not to look for sweeps; if empty, ROS is needed.
    :param max_pixels: largest accepted image, as the parameter of the depth node.
    :param camera: CameraInfo in place of the bag's, or None.
    :param on_stack: called with the stack of each sweep.
    :param on_message: called after each message.
    """
    inspection = BagInspection(
        (bag.end_ns - bag.start_ns) * 1e-9, list(bag.problems), inputs, list(missing)
    )

    def add_sweep(stack: FocalStack) -> None:
        inspection.sweeps.append(
            SweepSummary(
                stack.sweep_id,
                min(plane.stamp_ns for plane in stack.planes),
                stack.sweep_duration_ns * 1e-9,
                tuple(round(float(plane.focus_dioptres), 4) for plane in stack.planes),
                tuple(word.replace(' ', '_') for word in stack.flags.labels),
            )
        )
        on_stack(stack)

    pipeline: Any = None
    if inputs is not None and not missing:
        from dualfocus_ros.nodes.offline.offline_node import OfflinePipeline

        pipeline = OfflinePipeline(inputs, camera, add_sweep)
    check = _image_checker(max_pixels)
    for name, topic in sorted(bag.topics.items()):
        stamped = has_header(bag.types, topic.message_type)
        image_check = None if is_output_topic(name) else check
        inspection.topics[name] = TopicSummary(topic, stamped, image_check)
    for message in bag.messages():
        inspection.topics[message.topic].add(message)
        if pipeline is not None and message.topic in pipeline.topics:
            pipeline.take(message)
        on_message()
    if pipeline is not None:
        pipeline.finish()
        inspection.stage_counts = pipeline.stage_counter.snapshot()
    return inspection


def _image_checker(max_pixels: int) -> Callable[[str, Any], str | None] | None:
    """Return a function that gives the reason to refuse an image, or None; None without ROS."""
    try:
        from dualfocus_ros.nodes.messages.image_decoding import (
            MessageError,
            check_image,
            encoded_size,
        )
    except ImportError:
        return None

    def check(message_type: str, image: Any) -> str | None:
        if message_type == COMPRESSED_IMAGE:
            if encoded_size(image.data) is None:
                return f'undecodable: {image.format!r} is neither JPEG nor PNG'
            return None
        try:
            check_image(image, max_pixels)
        except MessageError as error:
            return f'{error.reason}, {error}'
        return None

    return check
