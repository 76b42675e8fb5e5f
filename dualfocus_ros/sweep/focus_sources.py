# SPDX-License-Identifier: Apache-2.0
"""Lens readings for cameras that do not publish ``FocusState``."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget

_SAME_POSITION = 1e-3


@dataclass(frozen=True)
class SettlingModel:
    """Settling of a lens after a command; a frame is settled when both limits have passed.

    :param frames: frames after the command that still show the old position or the movement
        (latency of driver and sensor).
    :param seconds: time from the command until the lens rests.
    """

    frames: int = 0
    seconds: float = 0.0

    def state(self, frames_since: int, seconds_since: float) -> LensState:
        """Return the lens state at the n-th frame (from 1) after the command."""
        settled = frames_since > self.frames and seconds_since >= self.seconds
        return LensState.SETTLED if settled else LensState.MOVING


class CommandFocusSource:
    """Lens readings from commands and a settling model, for lenses without feedback.

    A frame belongs to the last command before it; the lens is MOVING until it has settled. One
    clock must stamp commands and images.
    """

    def __init__(self, model: SettlingModel) -> None:
        self.model = model
        self.commands: deque[PlaneTarget] = deque(maxlen=64)
        self._frames: deque[int] = deque(maxlen=256)

    def add_command(self, command: PlaneTarget) -> int:
        """Add a command; one older than the newest means that the clock was set back.

        :returns: number of frames after the command that were already given the position before
            it, because the command came late.
        """
        if self.commands and command.stamp_ns < self.commands[-1].stamp_ns:
            self.clear()
        before = self.commands[-1].dioptres if self.commands else math.nan
        self.commands.append(command)
        # From a known position to NaN is a change too. From NaN it is not: those frames were
        # unusable anyway.
        if math.isnan(before) or abs(command.dioptres - before) <= _SAME_POSITION:
            return 0
        return sum(stamp > command.stamp_ns for stamp in self._frames)

    def reading(self, stamp_ns: int) -> LensReading | None:
        """Return the reading of the frame of this stamp; None without a command before it."""
        if self._frames and stamp_ns < self._frames[-1]:
            self._frames = deque((s for s in self._frames if s < stamp_ns), maxlen=256)
        self._frames.append(stamp_ns)
        command = next((c for c in reversed(self.commands) if c.stamp_ns <= stamp_ns), None)
        if command is None:
            return None
        frames_since = sum(command.stamp_ns < s <= stamp_ns for s in self._frames)
        state = self.model.state(frames_since, (stamp_ns - command.stamp_ns) * 1e-9)
        return LensReading(stamp_ns, command.dioptres, state, *command.plane_id)

    def clear(self) -> None:
        """Forget all commands and frames."""
        self.commands.clear()
        self._frames.clear()


class PositionFocusSource:
    """Lens readings from positions without a state, by a settling model.

    libcamera reports the commanded position of each frame; the lens may still be moving.
    """

    def __init__(self, model: SettlingModel) -> None:
        self.model = model
        self.clear()

    def clear(self) -> None:
        """Forget the position."""
        self._position = math.nan
        self._since_ns = 0
        self._last_ns = 0
        self._frames = 0
        self._first = True

    def reading(self, stamp_ns: int, dioptres: float) -> LensReading:
        """Return the reading of the frame of this stamp."""
        if stamp_ns < self._last_ns:
            self.clear()
        if not abs(dioptres - self._position) <= _SAME_POSITION:
            # The first position counts as settled: the lens may have been there for long.
            self._first = math.isnan(self._position)
            self._position, self._since_ns, self._frames = dioptres, stamp_ns, 0
        self._last_ns = stamp_ns
        self._frames += 1
        state = self.model.state(self._frames, (stamp_ns - self._since_ns) * 1e-9)
        return LensReading(stamp_ns, dioptres, LensState.SETTLED if self._first else state)
