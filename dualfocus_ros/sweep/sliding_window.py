# SPDX-License-Identifier: Apache-2.0
"""Newest frame at each focus position, for a stack with every frame."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, MAX_PLANES
from dualfocus_ros.sweep.frames import MatchedFrame
from dualfocus_ros.sweep.sweep_detection import Sweep, TurningSweep, newest_settled


@dataclass
class _Slot:
    """Newest frame at one position, and the number of lens moves before it."""

    frame: MatchedFrame
    visit: int


class SlidingWindow:
    """Newest frame at each focus position.

    Positions are identified by plane index in counted sweeps, otherwise by focus. A frame that
    was not replaced while the lens visited all positions twice is dropped as outdated.

    :ivar expected: number of positions; 0: unknown.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop all frames."""
        self.expected = 0
        self._slots: dict[float, _Slot] = {}
        self._visit = 0
        self._last_key: float | None = None
        self._newest = 0
        self._count = 0
        self._full = False
        self._sweep: Sweep | None = None

    @property
    def planes(self) -> int:
        """Number of positions with a frame."""
        return len(self._slots)

    def add(self, frame: MatchedFrame, size: int, timeout_ns: int) -> list[MatchedFrame]:
        """Add a frame; return one frame per position by stamp, empty until all are known.

        :param size: number of positions; 0: planes of the sweep.
        :param timeout_ns: pause between stamps after which all frames are outdated.
        """
        count = frame.lens.plane_count
        if count != self._count or frame.stamp_ns - self._newest > timeout_ns:
            self.clear()
            self._count = count
        self._newest = max(self._newest, frame.stamp_ns)
        key = float(frame.lens.plane_index) if count else self._position(frame)
        if key != self._last_key:
            self._visit += 1
            self._last_key = key
        old = self._slots.get(key)
        if old is not None and old.frame.stamp_ns > frame.stamp_ns:
            return []
        best = frame
        if old is not None and old.visit == self._visit:
            best = newest_settled(old.frame, frame)
        self._slots[key] = _Slot(best, self._visit)
        self.expected = min(size, count) if size and count else size or count
        self._drop_outdated(self.expected)
        self._full = self._full or self._all_known(frame)
        if not self._full:
            return []
        return sorted((slot.frame for slot in self._slots.values()), key=lambda f: f.stamp_ns)

    def _position(self, frame: MatchedFrame) -> float:
        focus = frame.lens.dioptres
        nearest = min(self._slots, key=lambda key: abs(key - focus), default=focus)
        return nearest if abs(nearest - focus) <= FOCUS_TOLERANCE else focus

    def _drop_outdated(self, expected: int) -> None:
        oldest_visit = self._visit - 2 * (expected or len(self._slots))
        limit = expected or MAX_PLANES
        by_age = sorted(self._slots, key=lambda key: self._slots[key].visit)
        for i, key in enumerate(by_age):
            if self._slots[key].visit <= oldest_visit or len(by_age) - i > limit:
                del self._slots[key]

    def _all_known(self, frame: MatchedFrame) -> bool:
        if self.expected:
            return len(self._slots) >= self.expected
        # Without a count, all positions are known at the first turn of the lens.
        if self._sweep is None:
            self._sweep = TurningSweep([frame])
            return False
        if self._sweep.try_add(frame):
            return False
        count = len(self._sweep.frames)
        self._sweep = self._sweep.next_sweep(frame)
        return count > 1
