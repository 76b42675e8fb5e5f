# SPDX-License-Identifier: Apache-2.0
"""Collector of the demo: matches depth with ground truth by stamp and computes its errors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualfocus_ros import topics
from dualfocus_ros.bags.image_messages import output_image_to_array
from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.evaluation.metrics import DepthErrors, depth_errors
from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.stamps import read_header_stamp, to_ns

# Absolute names: the demo runs in the root namespace.
DEPTH, SIGMA, POINTS = f'/{topics.DEPTH.name}', f'/{topics.SIGMA.name}', f'/{topics.POINTS.name}'
IMAGE, RGB = f'/{topics.IMAGE_RAW.name}', f'/{topics.RGB.name}'
STACK_INFO, TRUTH = f'/{topics.STACK_INFO.name}', f'/{topics.GROUND_TRUTH_DEPTH}'
EXAMPLE_TOPICS = (IMAGE, DEPTH, TRUTH, RGB, SIGMA, POINTS)
# Messages kept per topic; 128 at 10 Hz last longer than any sweep and its inference.
KEPT_INPUTS, KEPT_OUTPUTS = 128, 3
INCOMPLETE_FLAGS = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


@dataclass(frozen=True)
class DepthMeasurement:
    """Errors and time of receipt of one depth image; no errors without ground truth."""

    stamp_ns: int
    receipt_ns: int
    errors: DepthErrors | None


@dataclass(frozen=True, eq=False)
class ExampleSweep:
    """Planes, outputs and ground truth of one depth image, for the pictures."""

    planes: list[np.ndarray]
    focus_dioptres: list[float]
    depth: np.ndarray
    truth: np.ndarray
    sigma: np.ndarray
    all_in_focus: np.ndarray
    points: np.ndarray


@dataclass
class DemoCollector:
    """Callback of a :class:`~dualfocus_ros.bags.recorder.TopicRecorder`.

    Ground truth of depth images is written to the bag; that of other frames is dropped, as it is
    large and published with every frame.
    """

    bag: BagWriter
    depths: list[DepthMeasurement] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)
    info_latencies_ms: list[float] = field(default_factory=list)
    images: int = 0
    _recent: dict[str, deque[tuple[int, bytes]]] = field(default_factory=dict)
    _unmatched: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def __call__(self, topic: str, data: bytes, receipt_ns: int) -> None:
        """Add one serialised message."""
        stamp = read_header_stamp(data)
        if topic == STACK_INFO:
            info = typestore().deserialize_cdr(data, topics.STACK_INFO.message_type)
            self.infos.append(info)
            newest = max(to_ns(s) for s in info.stamps)
            self.info_latencies_ms.append((receipt_ns - newest) * 1e-6)
        elif topic == DEPTH:
            self._unmatched[stamp] = (receipt_ns, data)
        elif topic == IMAGE:
            self.images += 1
        if topic in EXAMPLE_TOPICS:
            kept = KEPT_INPUTS if topic in (IMAGE, TRUTH) else KEPT_OUTPUTS
            self._recent.setdefault(topic, deque(maxlen=kept)).append((stamp, data))
        if topic in (DEPTH, TRUTH):
            self._compare(stamp)

    def start_measuring(self) -> bool:
        """Drop everything before the first depth of a complete sweep; return whether it arrived.

        The depth node may have become ready within a sweep. From here on every depth counts,
        flagged or not.
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
        """Count the depth images whose ground truth never arrived."""
        for stamp, (receipt_ns, _) in sorted(self._unmatched.items()):
            self.depths.append(DepthMeasurement(stamp, receipt_ns, None))
        self._unmatched.clear()

    def example(self) -> ExampleSweep | None:
        """Return the newest depth image with all its planes, outputs and ground truth."""
        for info in reversed(self.infos):
            stamp = to_ns(info.header.stamp)
            planes = [self._find(IMAGE, to_ns(s)) for s in info.stamps]
            images = [self._find(topic, stamp) for topic in (DEPTH, TRUTH, SIGMA, RGB)]
            points = self._find(POINTS, stamp)
            if None not in (*planes, *images, points):
                depth, truth, sigma, sharp = map(decode_image, images)
                focus = [float(q) for q in info.focus_dioptres]
                cloud = decode_cloud(points)
                return ExampleSweep(
                    [*map(decode_image, planes)], focus, depth, truth, sigma, sharp, cloud
                )
        return None

    def _compare(self, stamp: int) -> None:
        truth = self._find(TRUTH, stamp)
        if truth is None or stamp not in self._unmatched:
            return
        receipt_ns, depth = self._unmatched.pop(stamp)
        try:
            errors = depth_errors(decode_image(depth), decode_image(truth))
        except ValueError:  # no valid pixel
            errors = None
        self.depths.append(DepthMeasurement(stamp, receipt_ns, errors))
        self.bag.write(TRUTH, topics.IMAGE, receipt_ns, truth)

    def _find(self, topic: str, stamp: int) -> bytes | None:
        recent = self._recent.get(topic, ())
        return next((data for known, data in reversed(recent) if known == stamp), None)


def decode_image(data: bytes | None) -> np.ndarray:
    """Return a serialised Image: rgb8 (H, W, 3), mono8 (H, W), 32FC1 or 16UC1 (H, W) metres."""
    assert data is not None
    return output_image_to_array(typestore().deserialize_cdr(data, topics.IMAGE))


def decode_cloud(data: bytes | None) -> np.ndarray:
    """Return a serialised organised PointCloud2 of 16 bytes a point as (H, W, 4) float32."""
    assert data is not None
    message: Any = typestore().deserialize_cdr(data, topics.POINT_CLOUD)
    values = np.asarray(message.data).view('<f4')
    return values.reshape(message.height, message.width, message.point_step // 4)
