# SPDX-License-Identifier: Apache-2.0
"""Where one sweep of the lens ends and the next begins.

Two kinds. A *counted* sweep says so itself: every frame carries the sweep's number, its index in
it and how many there are. A *turning* sweep is recognised from the focus alone: it ends where the
focus turns round (triangle: the turning plane belongs to both sweeps) or flies back (sawtooth).

Both are fed samples in the order of their stamps and answer whether a sample still belongs to
them. They hold no clock and no policy: see ``assembler.py`` for those.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, MAX_PLANES
from dualfocus_ros.sweep.frames import MatchedFrame


class Sweep(Protocol):
    """One pass of the lens through its positions."""

    expected: int

    @property
    def samples(self) -> list[MatchedFrame]:
        """The best sample of each position, in the order of the stamps."""

    @property
    def complete(self) -> bool:
        """Whether no further plane is expected."""

    @property
    def last_stamp(self) -> int:
        """The newest stamp that belongs to this sweep."""

    def offer(self, sample: MatchedFrame) -> bool:
        """Take a sample newer than all before; False if it belongs to the next sweep."""

    def successor(self, sample: MatchedFrame) -> Sweep:
        """Return the next sweep, which begins with a sample that this one did not take."""


def newest_settled(old: MatchedFrame, new: MatchedFrame) -> MatchedFrame:
    """Return which of two samples of one position to keep: the newest one that is settled.

    It stands for both: that the lens was there meanwhile is not forgotten.
    """
    settled = LensState.SETTLED
    worse = old.lens.state == settled and new.lens.state != settled
    return replace(old if worse else new, span_ns=(old.first_ns, new.last_ns))


def start_sweep(sample: MatchedFrame, size: int = 0) -> Sweep:
    """Return a new sweep that begins with ``sample``.

    :param size: how many planes make a stack; 0 for as many as the sweep has.
    """
    if sample.lens.plane_count > 0:
        return CountedSweep(sample, size)
    return TurningSweep([sample], size)


class CountedSweep:
    """A sweep whose frames carry its number, their index and the number of planes."""

    def __init__(self, first: MatchedFrame, size: int = 0) -> None:
        self._id = first.lens.sweep_id
        self._count = first.lens.plane_count
        self._size = size
        self.expected = min(size, self._count) if size else self._count
        self._planes = {first.lens.plane_index: first}
        self._newest = first

    @property
    def samples(self) -> list[MatchedFrame]:
        return sorted(self._planes.values(), key=lambda s: s.stamp_ns)

    @property
    def complete(self) -> bool:
        return len(self._planes) >= self.expected

    @property
    def last_stamp(self) -> int:
        return self._newest.last_ns

    def offer(self, sample: MatchedFrame) -> bool:
        focus, last = sample.lens, self._newest.lens
        if (focus.sweep_id, focus.plane_count) != (self._id, self._count):
            return False
        index = focus.plane_index
        # A driver that never changes the number begins a new sweep by going back to an index.
        if index in self._planes and index != last.plane_index:
            return False
        if not self.complete:
            old = self._planes.get(index)
            self._planes[index] = sample if old is None else newest_settled(old, sample)
        self._newest = sample
        return True

    def successor(self, sample: MatchedFrame) -> Sweep:
        return start_sweep(sample, self._size)


class TurningSweep:
    """A sweep that is known by its focus positions alone.

    :param turn: position and number of planes at which the sweep before ended, once two sweeps
        have been seen; a sweep of that many planes that reaches one of the two known turning
        positions is complete at once, not only when the lens has turned.
    """

    def __init__(
        self,
        first: list[MatchedFrame],
        size: int = 0,
        turns: tuple[float, ...] = (),
        expected: int = 0,
    ) -> None:
        self._size = size
        self._turns = turns
        self.expected = size or expected
        self._planes = list(first)
        self._newest = first[-1]

    @property
    def samples(self) -> list[MatchedFrame]:
        return list(self._planes)

    @property
    def complete(self) -> bool:
        count = len(self._planes)
        if count == MAX_PLANES:
            return True
        if self._size:
            return count >= self._size
        return count == self.expected and any(
            self._at(turn, self._planes[-1]) for turn in self._turns
        )

    @property
    def last_stamp(self) -> int:
        return self._newest.last_ns

    def offer(self, sample: MatchedFrame) -> bool:
        if sample.lens.plane_count > 0:
            return False
        last = self._planes[-1]
        if self._at(sample.lens.dioptres, last):
            if not self.complete:
                self._planes[-1] = newest_settled(last, sample)
            self._newest = sample
            return True
        if self.complete or self._turned(sample):
            return False
        self._planes.append(sample)
        self._newest = sample
        return True

    def successor(self, sample: MatchedFrame) -> Sweep:
        if sample.lens.plane_count > 0:
            return start_sweep(sample, self._size)
        first = [sample]
        if self._turned(sample) and not self._flies_back(sample):
            # The turning plane ends this sweep and begins the next one.
            turning = self._planes[-1]
            first = [newest_settled(turning, self._newest), sample]
        end = self._planes[-1].lens.dioptres
        return TurningSweep(first, self._size, (*self._turns[-1:], end), len(self._planes))

    def _turned(self, sample: MatchedFrame) -> bool:
        if len(self._planes) < 2:
            return False
        before, last = (s.lens.dioptres for s in self._planes[-2:])
        return (last - before) * (sample.lens.dioptres - last) < 0.0

    def _flies_back(self, sample: MatchedFrame) -> bool:
        start, last = self._planes[0].lens.dioptres, self._planes[-1].lens.dioptres
        return abs(sample.lens.dioptres - last) > 0.5 * abs(last - start)

    @staticmethod
    def _at(dioptres: float, sample: MatchedFrame) -> bool:
        return abs(dioptres - sample.lens.dioptres) <= FOCUS_TOLERANCE
