# SPDX-License-Identifier: Apache-2.0
"""Detect where one sweep of the lens ends and the next begins.

The frames of a *counted* sweep carry its number, their plane index and the number of planes. A
*turning* sweep is detected from the focus alone: it ends where the focus reverses (triangle: the
turning plane belongs to both sweeps) or returns to the start (sawtooth).

Frames are added by stamp. Timeouts and late frames are handled in ``assembler.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, MAX_PLANES
from dualfocus_ros.sweep.frames import MatchedFrame


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


class Sweep(ABC):
    """One pass of the lens through its positions.

    :ivar frames: best frame of each position, by stamp.
    :ivar expected: number of planes; 0: unknown.
    """

    def __init__(self, first: Sequence[MatchedFrame], size: int, expected: int) -> None:
        self.frames = list(first)
        self.expected = expected
        self._size = size
        self._newest = first[-1]

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether all planes have arrived."""

    @property
    def last_stamp(self) -> int:
        """Newest stamp of this sweep."""
        return self._newest.last_ns

    @abstractmethod
    def try_add(self, frame: MatchedFrame) -> bool:
        """Add a frame newer than all others; return False if it belongs to the next sweep."""

    def next_sweep(self, frame: MatchedFrame) -> Sweep:
        """Return the next sweep, which begins with a frame that this one did not accept."""
        return start_sweep(frame, self._size)

    def _add(self, frame: MatchedFrame, *, same_position: bool) -> None:
        """Add a frame at a new position, or at that of the newest frame."""
        if not self.complete:
            if same_position:
                self.frames[-1] = newest_settled(self.frames[-1], frame)
            else:
                self.frames.append(frame)
        self._newest = frame


class CountedSweep(Sweep):
    """A sweep whose frames carry its number, their plane index and the number of planes."""

    def __init__(self, first: MatchedFrame, size: int = 0) -> None:
        count = first.lens.plane_count
        super().__init__([first], size, min(size, count) if size else count)

    @property
    def complete(self) -> bool:
        return len(self.frames) >= self.expected

    def try_add(self, frame: MatchedFrame) -> bool:
        lens, last = frame.lens, self._newest.lens
        if (lens.sweep_id, lens.plane_count) != (last.sweep_id, last.plane_count):
            return False
        same = lens.plane_index == last.plane_index
        # With a constant sweep number, a repeated index begins a new sweep.
        if not same and any(f.lens.plane_index == lens.plane_index for f in self.frames):
            return False
        self._add(frame, same_position=same)
        return True


class TurningSweep(Sweep):
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
        super().__init__(first, size, size or expected)
        self._turns = turns

    @property
    def complete(self) -> bool:
        count = len(self.frames)
        if count == MAX_PLANES:
            return True
        if self._size:
            return count >= self._size
        return count == self.expected and any(_is_at(t, self.frames[-1]) for t in self._turns)

    def try_add(self, frame: MatchedFrame) -> bool:
        if frame.lens.plane_count > 0:
            return False
        same = _is_at(frame.lens.dioptres, self.frames[-1])
        if not same and (self.complete or self._is_turn(frame)):
            return False
        self._add(frame, same_position=same)
        return True

    def next_sweep(self, frame: MatchedFrame) -> Sweep:
        if frame.lens.plane_count > 0:
            return start_sweep(frame, self._size)
        start, end = self.frames[0].lens.dioptres, self.frames[-1].lens.dioptres
        returns = abs(frame.lens.dioptres - end) > 0.5 * abs(end - start)
        first = [frame]
        if self._is_turn(frame) and not returns:
            # The turning plane ends this sweep and begins the next one.
            first = [newest_settled(self.frames[-1], self._newest), frame]
        return TurningSweep(first, self._size, (*self._turns[-1:], end), len(self.frames))

    def _is_turn(self, frame: MatchedFrame) -> bool:
        """Return whether the focus reverses with this frame."""
        if len(self.frames) < 2:
            return False
        before, last = (f.lens.dioptres for f in self.frames[-2:])
        return (last - before) * (frame.lens.dioptres - last) < 0.0


def _is_at(dioptres: float, frame: MatchedFrame) -> bool:
    return abs(dioptres - frame.lens.dioptres) <= FOCUS_TOLERANCE
