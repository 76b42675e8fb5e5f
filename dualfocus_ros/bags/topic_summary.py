# SPDX-License-Identifier: Apache-2.0
"""Statistics of a topic of a bag: stamps, encodings, focus. Without ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
import math
from typing import Any

from rosbags.typesys.store import Typestore

from dualfocus_ros.bags.reader import BagError, BagMessage, BagTopic
from dualfocus_ros.stamps import read_header_stamp
from dualfocus_ros.topics import COMPRESSED_IMAGE, FOCUS_STATE, IMAGE

_LENS_STATES = ('unknown', 'settled', 'moving', 'fault')
_STAMP_END = 12  # bytes of a message up to the end of its stamp


def has_header(types: Typestore, message_type: str) -> bool:
    """Whether messages of a type begin with a header."""
    definition: Any = types.fielddefs.get(message_type)
    if definition is None or not definition[1]:
        return False
    _, (_, kind) = definition[1][0]
    return bool(kind == 'std_msgs/msg/Header')


@dataclass
class TopicSummary:
    """Statistics of the messages of one topic.

    :param stamped: whether the messages begin with a header.
    :param check: returns the reason to refuse an image of a message type, or None.
    :param refused: number of images by reason for refusal.
    :param formats: number of images by encoding and size.
    :param focus: number of FocusState messages by focus (hundredths of a dioptre) and lens state.
    """

    topic: BagTopic
    stamped: bool
    check: Callable[[str, Any], str | None] | None = None
    count: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    header_first_ns: int | None = None
    header_last_ns: int | None = None
    backward: int = 0
    repeated: int = 0
    zero: int = 0
    undecodable: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    focus: Counter[tuple[float, str]] = field(default_factory=Counter)

    @property
    def rate(self) -> float | None:
        """Messages per second of bag time; None for fewer than two stamps."""
        if self.first_ns is None or self.last_ns is None or self.last_ns <= self.first_ns:
            return None
        return (self.count - 1) / ((self.last_ns - self.first_ns) * 1e-9)

    def add(self, message: BagMessage) -> None:
        """Count one message."""
        self.count += 1
        if self.first_ns is None:
            self.first_ns = message.stamp_ns
        self.last_ns = message.stamp_ns
        if self.stamped and len(message.data) >= _STAMP_END:
            self._add_stamp(read_header_stamp(message.data))
        kind = message.message_type
        if kind not in (IMAGE, COMPRESSED_IMAGE, FOCUS_STATE.message_type):
            return
        try:
            content = message.message
        except BagError:
            self.undecodable += 1
            return
        if kind == FOCUS_STATE.message_type:
            dioptres = float(content.focus_dioptres)
            state = _LENS_STATES[content.state] if content.state < len(_LENS_STATES) else 'unknown'
            self.focus[round(dioptres, 2) if math.isfinite(dioptres) else math.nan, state] += 1
            return
        reason = None if self.check is None else self.check(kind, content)
        if reason is not None:
            self.refused[reason] += 1
        if kind == IMAGE:
            self.formats[f'{content.encoding} {content.width}x{content.height}'] += 1
        else:
            self.formats[content.format] += 1

    def _add_stamp(self, stamp: int) -> None:
        if stamp == 0:
            self.zero += 1
            return
        if self.header_last_ns is not None:
            self.backward += stamp < self.header_last_ns
            self.repeated += stamp == self.header_last_ns
        if self.header_first_ns is None:
            self.header_first_ns = stamp
        self.header_last_ns = stamp

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics for JSON."""
        return {
            'type': self.topic.message_type,
            'count': self.count,
            'rate_hz': self.rate,
            'first_ns': self.first_ns,
            'last_ns': self.last_ns,
            'header_first_ns': self.header_first_ns,
            'header_last_ns': self.header_last_ns,
            'stamps_backward': self.backward,
            'stamps_repeated': self.repeated,
            'stamps_zero': self.zero,
            'undecodable': self.undecodable,
            'formats': dict(self.formats),
            'refused': dict(self.refused),
        }
