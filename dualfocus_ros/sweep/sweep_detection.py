# SPDX-License-Identifier: Apache-2.0
"""Detect where one sweep of the lens ends and the next begins.

The frames of a *counted* sweep carry its number, their plane index and the number of planes. A
*turning* sweep is detected from the focus alone: it ends where the focus reverses (triangle: the
turning plane belongs to both sweeps) or returns to the start (sawtooth).

Frames are added by stamp. Timeouts and late frames are handled in ``assembler.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, MAX_PLANES
from dualfocus_ros.sweep.frames import MatchedFrame


class Sweep(Protocol):
    """One pass of the lens through its positions.

    :ivar expected: number of planes; 0: unknown.
    """

    expected: int

    @property
    def frames(self) -> list[MatchedFrame]:
        """Best frame of each position, by stamp."""

    @property
    def complete(self) -> bool:
        """Whether all planes have arrived."""

    @property
    def last_stamp(self) -> int:
        """Newest stamp of this sweep."""

    def try_add(self, frame: MatchedFrame) -> bool:
        """Add a frame newer than all others; return False if it belongs to the next sweep."""

    def next_sweep(self, frame: MatchedFrame) -> Sweep:
        """Return the next sweep, which begins with a frame that this one did not accept."""


def newest_settled(old: MatchedFrame, new: MatchedFrame) -> MatchedFrame:
    """Return the better of two frames at one position: the newest settled one.

    It spans the stamps of both.
    """
    settled = LensState.SETTLED
    keep_old = old.lens.state == settled and new.lens.state != settled
    return replace(old if keep_old else new, span_ns=(old.first_ns, new.last_ns))


def start_sweep(frame: MatchedFrame, size: int = 0) -> Sweep:
    """Return a new sweep that begins with ``frame``.

    :param size: planes of a stack; 0: planes of the sweep.
    """
    if frame.lens.plane_count > 0:
        return CountedSweep(frame, size)
    return TurningSweep([frame], size)


class CountedSweep:
    """A sweep whose frames carry its number, their plane index and the number of planes."""

    def __init__(self, first: MatchedFrame, size: int = 0) -> None:
        self._id = first.lens.sweep_id
        self._count = first.lens.plane_count
        self._size = size
        self.expected = min(size, self._count) if size else self._count
        self._by_index = {first.lens.plane_index: first}
        self._newest = first

    @property
    def frames(self) -> list[MatchedFrame]:
        return sorted(self._by_index.values(), key=lambda frame: frame.stamp_ns)

    @property
    def complete(self) -> bool:
        return len(self._by_index) >= self.expected

    @property
    def last_stamp(self) -> int:
        return self._newest.last_ns

    def try_add(self, frame: MatchedFrame) -> bool:
        lens, last = frame.lens, self._newest.lens
        if (lens.sweep_id, lens.plane_count) != (self._id, self._count):
            return False
        index = lens.plane_index
        # With a constant sweep number, a repeated index begins a new sweep.
        if index in self._by_index and index != last.plane_index:
            return False
        if not self.complete:
            old = self._by_index.get(index)
            self._by_index[index] = frame if old is None else newest_settled(old, frame)
        self._newest = frame
        return True

    def next_sweep(self, frame: MatchedFrame) -> Sweep:
        return start_sweep(frame, self._size)


class TurningSweep:
    """A sweep detected from its focus positions.

    :param turns: focus in dioptres of the last one or two turns. A sweep of ``expected`` planes
        that reaches one of them is complete at once, before the lens turns.
    :param expected: planes of the sweep before; 0: unknown.
    """

    def __init__(
        self,
        first: Sequence[MatchedFrame],
        size: int = 0,
        turns: tuple[float, ...] = (),
        expected: int = 0,
    ) -> None:
        self._size = size
        self._turns = turns
        self.expected = size or expected
        self._frames = list(first)
        self._newest = first[-1]

    @property
    def frames(self) -> list[MatchedFrame]:
        return list(self._frames)

    @property
    def complete(self) -> bool:
        count = len(self._frames)
        if count == MAX_PLANES:
            return True
        if self._size:
            return count >= self._size
        return count == self.expected and any(
            _is_at(turn, self._frames[-1]) for turn in self._turns
        )

    @property
    def last_stamp(self) -> int:
        return self._newest.last_ns

    def try_add(self, frame: MatchedFrame) -> bool:
        if frame.lens.plane_count > 0:
            return False
        last = self._frames[-1]
        if _is_at(frame.lens.dioptres, last):
            if not self.complete:
                self._frames[-1] = newest_settled(last, frame)
            self._newest = frame
            return True
        if self.complete or self._is_turn(frame):
            return False
        self._frames.append(frame)
        self._newest = frame
        return True

    def next_sweep(self, frame: MatchedFrame) -> Sweep:
        if frame.lens.plane_count > 0:
            return start_sweep(frame, self._size)
        first = [frame]
        if self._is_turn(frame) and not self._is_return(frame):
            # The turning plane ends this sweep and begins the next one.
            turning = self._frames[-1]
            first = [newest_settled(turning, self._newest), frame]
        end = self._frames[-1].lens.dioptres
        return TurningSweep(first, self._size, (*self._turns[-1:], end), len(self._frames))

    def _is_turn(self, frame: MatchedFrame) -> bool:
        """Return whether the focus reverses with this frame."""
        if len(self._frames) < 2:
            return False
        before, last = (f.lens.dioptres for f in self._frames[-2:])
        return (last - before) * (frame.lens.dioptres - last) < 0.0

    def _is_return(self, frame: MatchedFrame) -> bool:
        """Return whether the focus jumps back by more than half of the sweep."""
        start, last = self._frames[0].lens.dioptres, self._frames[-1].lens.dioptres
        return abs(frame.lens.dioptres - last) > 0.5 * abs(last - start)


def _is_at(dioptres: float, frame: MatchedFrame) -> bool:
    return abs(dioptres - frame.lens.dioptres) <= FOCUS_TOLERANCE
