# SPDX-License-Identifier: Apache-2.0
"""The newest plane at each focus position, for a depth map with every frame."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, MAX_PLANES
from dualfocus_ros.sweep.frames import MatchedFrame
from dualfocus_ros.sweep.sweep_detection import Sweep, TurningSweep, newest_settled


@dataclass
class _Slot:
    """The newest sample at one position and when the lens was last there, counted in moves."""

    sample: MatchedFrame
    visit: int


class SlidingWindow:
    """Keeps the newest sample of each position.

    Positions are told apart by their index where the sweep is counted, otherwise by their focus.
    A plane that has not been renewed while the lens visited all positions twice is forgotten: it
    shows a scene that is gone.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all planes."""
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
        """How many positions have a plane."""
        return len(self._slots)

    def add(self, sample: MatchedFrame, size: int, timeout_ns: int) -> list[MatchedFrame]:
        """Add a sample; return one of each position by stamp, or nothing until all are known.

        :param size: how many positions there are; 0 for as many as the sweep has.
        :param timeout_ns: after a longer pause all planes are too old.
        """
        count = sample.lens.plane_count
        if count != self._count or sample.stamp_ns - self._newest > timeout_ns:
            self.clear()
            self._count = count
        self._newest = max(self._newest, sample.stamp_ns)
        key = float(sample.lens.plane_index) if count else self._position(sample)
        if key != self._last_key:
            self._visit += 1
            self._last_key = key
        old = self._slots.get(key)
        if old is not None and old.sample.stamp_ns > sample.stamp_ns:
            return []
        kept = sample
        if old is not None and old.visit == self._visit:
            kept = newest_settled(old.sample, sample)
        self._slots[key] = _Slot(kept, self._visit)
        self.expected = min(size, count) if size and count else size or count
        self._forget_stale(self.expected)
        self._full = self._full or self._seen_all(sample)
        if not self._full:
            return []
        return sorted((slot.sample for slot in self._slots.values()), key=lambda s: s.stamp_ns)

    def _position(self, sample: MatchedFrame) -> float:
        focus = sample.lens.dioptres
        nearest = min(self._slots, key=lambda key: abs(key - focus), default=focus)
        return nearest if abs(nearest - focus) <= FOCUS_TOLERANCE else focus

    def _forget_stale(self, expected: int) -> None:
        oldest_visit = self._visit - 2 * (expected or len(self._slots))
        limit = expected or MAX_PLANES
        by_age = sorted(self._slots, key=lambda key: self._slots[key].visit)
        for i, key in enumerate(by_age):
            if self._slots[key].visit <= oldest_visit or len(by_age) - i > limit:
                del self._slots[key]

    def _seen_all(self, sample: MatchedFrame) -> bool:
        if self.expected:
            return len(self._slots) >= self.expected
        # Without a count, all positions are known once the lens has turned round.
        if self._sweep is None:
            self._sweep = TurningSweep([sample])
            return False
        if self._sweep.offer(sample):
            return False
        count = len(self._sweep.samples)
        self._sweep = self._sweep.successor(sample)
        return count > 1
