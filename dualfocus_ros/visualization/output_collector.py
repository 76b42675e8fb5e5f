# SPDX-License-Identifier: Apache-2.0
"""Outputs of the depth node grouped by stamp, from a bag or live topics."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
import logging
import math
from typing import Any

import numpy as np

from dualfocus_ros.bags.image_messages import output_image_to_array
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.topics import CONFIDENCE, DEPTH, DEPTH_CAMERA_INFO, RGB, SIGMA, STACK_INFO
from dualfocus_ros.visualization.sweep_view import SweepView

logger = logging.getLogger(__name__)

# Message types by relative name of the outputs that make a sweep view.
OUTPUTS = {
    topic.name: topic.message_type
    for topic in (DEPTH, DEPTH_CAMERA_INFO, SIGMA, CONFIDENCE, RGB, STACK_INFO)
}


@dataclass
class OutputMessages:
    """Messages of one stamp, by relative topic name."""

    stamp_ns: int
    messages: dict[str, Any] = field(default_factory=dict)

    @property
    def plane_stamps_ns(self) -> list[int]:
        """Stamps of the planes; empty without ``stack_info``."""
        info = self.messages.get(STACK_INFO.name)
        return [] if info is None else [to_ns(stamp) for stamp in info.stamps]

    def sweep(self, name: str) -> SweepView:
        """Decode the messages; unreadable ones other than depth are left out with a warning.

        :raises ValueError: if the depth image cannot be decoded.
        """
        depth = output_image_to_array(self.messages[DEPTH.name])
        info = self.messages.get(STACK_INFO.name)
        focus = None if info is None else np.asarray(info.focus_dioptres, np.float64)
        return SweepView(
            name,
            depth.astype(np.float32, copy=False),
            self._image(SIGMA.name, depth.shape),
            self._image(CONFIDENCE.name, depth.shape),
            self._image(RGB.name),
            None if focus is None or not np.isfinite(focus).all() else focus,
            camera=_camera(self.messages.get(DEPTH_CAMERA_INFO.name), depth.shape),
            facts={} if info is None else _facts(info),
        )

    def _image(self, topic: str, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
        message = self.messages.get(topic)
        if message is None:
            return None
        try:
            values = output_image_to_array(message)
        except ValueError as error:
            logger.warning('%s is left out: %s', topic, error)
            return None
        if shape is not None and values.shape != shape:
            logger.warning('%s is left out: its size differs from the depth image', topic)
            return None
        return values


class OutputCollector:
    """Groups messages by stamp.

    :param topics: absolute names by relative name of :data:`OUTPUTS`.
    :param max_stamps: number of newest stamps to keep.
    """

    def __init__(self, topics: dict[str, str], max_stamps: int) -> None:
        self._relative = {name: relative for relative, name in topics.items()}
        self._max_stamps = max_stamps
        self._outputs: OrderedDict[int, OutputMessages] = OrderedDict()

    def add(self, topic: str, message: Any) -> OutputMessages:
        """Add a message; return all messages of its stamp so far."""
        stamp = to_ns(message.header.stamp)
        outputs = self._outputs.setdefault(stamp, OutputMessages(stamp))
        if len(self._outputs) > self._max_stamps:
            self._outputs.popitem(last=False)
        outputs.messages[self._relative[topic]] = message
        return outputs


def format_stamp(stamp_ns: int) -> str:
    """Return a stamp as text in seconds, to the millisecond."""
    return f'{stamp_ns // 1_000_000_000}.{stamp_ns // 1_000_000 % 1000:03d} s'


def _camera(info: Any, shape: tuple[int, ...]) -> PinholeCamera | None:
    if info is None or (info.height, info.width) != shape:
        return None
    try:
        fx, fy, cx, cy = (float(info.p[index]) for index in (0, 5, 2, 6))
        return PinholeCamera(int(info.width), int(info.height), fx, fy, cx, cy)
    except ValueError:
        return None


def _facts(info: Any) -> dict[str, str]:
    facts = {
        'sweep': str(info.sweep_id),
        'planes': str(len(info.focus_dioptres)),
        'duration': f'{info.sweep_duration:.2f} s',
        'flags': ', '.join(StackFlag(info.flags).labels) or 'none',
        'model': f'{info.model} on {info.device}',
    }
    for name, value in (('inference', info.inference_ms), ('latency', info.latency_ms)):
        if math.isfinite(value):
            facts[name] = f'{value:.0f} ms'
    return facts
