# SPDX-License-Identifier: Apache-2.0
"""What the demo receives over DDS, matched by stamp and measured."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
import struct
from typing import Any

import numpy as np

from dualfocus_ros import topics
from dualfocus_ros.bags.image_messages import image_to_array
from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.evaluation.metrics import DepthErrors, depth_errors
from dualfocus_ros.stamps import to_ns

# Absolute names: the demo runs in the root namespace.
DEPTH, SIGMA, POINTS = f'/{topics.DEPTH.name}', f'/{topics.SIGMA.name}', f'/{topics.POINTS.name}'
IMAGE, COLOUR, INFO = f'/{topics.IMAGE_RAW.name}', f'/{topics.RGB.name}', f'/{topics.STACK_INFO.name}'
TRUTH = f'/{topics.GROUND_TRUTH_DEPTH}'
PICTURED = (IMAGE, DEPTH, TRUTH, COLOUR, SIGMA, POINTS)
KEEP = {IMAGE: 128, TRUTH: 128}  # messages; at 10 Hz, longer than any sweep and its inference
KEEP_OTHERS = 3
INCOMPLETE_FLAGS = 1 | 8  # StackInfo.FLAG_PLANE_MISSING, FLAG_PARTIAL
TYPES = {INFO: topics.STACK_INFO.message_type, POINTS: topics.POINTS.message_type}


@dataclass(frozen=True)
class DepthMeasurement:
    """One depth image: its errors, and how old it was when it came."""

    stamp_ns: int
    receipt_ns: int
    errors: DepthErrors | None


@dataclass(frozen=True, eq=False)
class ExampleSweep:
    """Everything that belongs to one depth image, for pictures of it."""

    planes: list[np.ndarray]
    focus_dioptres: list[float]
    depth: np.ndarray
    truth: np.ndarray
    sigma: np.ndarray
    all_in_focus: np.ndarray
    points: np.ndarray


@dataclass
class DemoCollector:
    """Listens to a :class:`~dualfocus_ros.bags.recorder.TopicRecorder`.

    Truth comes with every frame and is large: only that of depth images goes into the bag.
    """

    bag: BagWriter
    depths: list[DepthMeasurement] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)
    info_latencies_ms: list[float] = field(default_factory=list)
    images: int = 0
    _recent: dict[str, deque[tuple[int, bytes]]] = field(default_factory=dict)
    _waiting: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def __call__(self, topic: str, data: bytes, receipt_ns: int) -> None:
        """Take one serialised message."""
        stamp = read_stamp(data)
        if topic == INFO:
            info = typestore().deserialize_cdr(data, TYPES[INFO])
            self.infos.append(info)
            newest = max(to_ns(s) for s in info.stamps)
            self.info_latencies_ms.append((receipt_ns - newest) * 1e-6)
        elif topic == DEPTH:
            self._waiting[stamp] = (receipt_ns, data)
        elif topic == IMAGE:
            self.images += 1
        if topic in PICTURED:
            keep = KEEP.get(topic, KEEP_OTHERS)
            self._recent.setdefault(topic, deque(maxlen=keep)).append((stamp, data))
        if topic in (DEPTH, TRUTH):
            self._compare(stamp)

    def begin(self) -> bool:
        """Start measuring with the first depth of a whole sweep; return whether it has come.

        The node may have been ready in the middle of a sweep: what that gave is forgotten.
        From here on everything counts, whatever its flags.
        """
        compared = {depth.stamp_ns for depth in self.depths}
        for index, info in enumerate(self.infos):
            if not info.flags & INCOMPLETE_FLAGS and to_ns(info.header.stamp) in compared:
                first = to_ns(info.header.stamp)
                self.depths = [depth for depth in self.depths if depth.stamp_ns >= first]
                self.infos = self.infos[index:]
                self.info_latencies_ms = self.info_latencies_ms[index:]
                self.images = 0
                return True
        return False

    def finish(self) -> None:
        """Count the depth images whose truth never came."""
        for stamp, (receipt_ns, _) in sorted(self._waiting.items()):
            self.depths.append(DepthMeasurement(stamp, receipt_ns, None))
        self._waiting.clear()

    def example(self) -> ExampleSweep | None:
        """Return the newest depth image of which everything was received."""
        for info in reversed(self.infos):
            stamp = to_ns(info.header.stamp)
            parts = {topic: self._find(topic, stamp) for topic in PICTURED if topic != IMAGE}
            planes = [self._find(IMAGE, to_ns(s)) for s in info.stamps]
            if any(p is None for p in (*parts.values(), *planes)):
                continue
            return ExampleSweep(
                planes=[decode_image(p) for p in planes if p is not None],
                focus_dioptres=[float(q) for q in info.focus_dioptres],
                depth=decode_image(parts[DEPTH]),
                truth=decode_image(parts[TRUTH]),
                sigma=decode_image(parts[SIGMA]),
                all_in_focus=decode_image(parts[COLOUR]),
                points=decode_cloud(parts[POINTS]),
            )
        return None

    def _compare(self, stamp: int) -> None:
        truth = self._find(TRUTH, stamp)
        if truth is None or stamp not in self._waiting:
            return
        receipt_ns, depth = self._waiting.pop(stamp)
        try:
            errors = depth_errors(decode_image(depth), decode_image(truth))
        except ValueError:  # not one valid pixel
            errors = None
        self.depths.append(DepthMeasurement(stamp, receipt_ns, errors))
        self.bag.write(TRUTH, 'sensor_msgs/msg/Image', receipt_ns, truth)

    def _find(self, topic: str, stamp: int) -> bytes | None:
        recent = self._recent.get(topic, ())
        return next((data for known, data in reversed(recent) if known == stamp), None)


def read_stamp(data: bytes) -> int:
    """Return the header stamp of a serialised message that begins with a header, in nanoseconds."""
    # Four bytes of encapsulation, the second of which is 1 for little endian; then the stamp.
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def decode_image(data: bytes | None) -> np.ndarray:
    """Return a serialised Image as an array: rgb8 (H, W, 3), mono8 (H, W), 32FC1 and 16UC1 in m."""
    assert data is not None
    return image_to_array(typestore().deserialize_cdr(data, 'sensor_msgs/msg/Image'))


def decode_cloud(data: bytes | None) -> np.ndarray:
    """Return a serialised organised cloud of 16 bytes a point as (H, W, 4) float32."""
    assert data is not None
    message: Any = typestore().deserialize_cdr(data, TYPES[POINTS])
    values = np.asarray(message.data).view('<f4')
    return values.reshape(message.height, message.width, message.point_step // 4)
