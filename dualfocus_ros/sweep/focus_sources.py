# SPDX-License-Identifier: Apache-2.0
"""Where the focus of a frame is known from when the camera does not say it in our own message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
import math

from dualfocus_ros.sweep.time_synchronizer import LensReading, LensState

LENS_POSITION_KEY = 'LensPosition'

_SAME_POSITION = 1e-3


@dataclass(frozen=True)
class SettlingModel:
    """When a lens that was told to move has arrived.

    :param frames: frames after the order that still belong to the old position or the movement
        (the latency of the driver and the sensor).
    :param seconds: time after the order until the lens rests. A frame must pass both.
    """

    frames: int = 0
    seconds: float = 0.0

    def state(self, frames_since: int, seconds_since: float) -> LensState:
        """Return the state of the lens at the n-th frame (from 1) after the order."""
        arrived = frames_since > self.frames and seconds_since >= self.seconds
        return LensState.SETTLED if arrived else LensState.MOVING


@dataclass(frozen=True)
class FocusOrder:
    """A position that the lens was told to go to (``FocusCommand``)."""

    stamp_ns: int
    dioptres: float
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0


class CommandFocusSource:
    """The focus of each frame from the commanded position and a settling model.

    For lenses that report nothing. The stamps of the orders must be of the clock that stamps the
    images. A frame belongs to the last order before it; until the lens has settled it is MOVING.
    """

    def __init__(self, model: SettlingModel) -> None:
        self.model = model
        self._orders: deque[FocusOrder] = deque(maxlen=64)
        self._frames: deque[int] = deque(maxlen=256)

    def add_command(self, order: FocusOrder) -> int:
        """Remember an order; one that is older than the newest means that the clock went back.

        :returns: how many frames from after the order have been given the position before it,
            because it comes too late.
        """
        if self._orders and order.stamp_ns < self._orders[-1].stamp_ns:
            self.clear()
        before = self._orders[-1].dioptres if self._orders else math.nan
        self._orders.append(order)
        # From a known position to none (NaN) is a change too; what was unknown misled nobody.
        if math.isnan(before) or abs(order.dioptres - before) <= _SAME_POSITION:
            return 0
        return sum(stamp > order.stamp_ns for stamp in self._frames)

    def report(self, stamp_ns: int) -> LensReading | None:
        """Return the focus of the frame with this stamp, or None without any order before it."""
        if self._frames and stamp_ns < self._frames[-1]:
            self._frames = deque((s for s in self._frames if s < stamp_ns), maxlen=256)
        self._frames.append(stamp_ns)
        order = next((o for o in reversed(self._orders) if o.stamp_ns <= stamp_ns), None)
        if order is None:
            return None
        frames_since = sum(order.stamp_ns < s <= stamp_ns for s in self._frames)
        state = self.model.state(frames_since, (stamp_ns - order.stamp_ns) * 1e-9)
        return LensReading(
            stamp_ns, order.dioptres, state, order.sweep_id, order.plane_index, order.plane_count
        )

    def clear(self) -> None:
        """Forget all orders and frames."""
        self._orders.clear()
        self._frames.clear()


class PositionFocusSource:
    """Adds the state of the lens to positions that a driver reports without one.

    libcamera reports where the lens was told to be for this frame; it may still be on its way.
    """

    def __init__(self, model: SettlingModel) -> None:
        self.model = model
        self.clear()

    def clear(self) -> None:
        """Forget the position, as after a jump of the clock."""
        self._position = math.nan
        self._since_ns = 0
        self._last_ns = 0
        self._frames = 0
        self._first = True

    def report(self, stamp_ns: int, dioptres: float) -> LensReading:
        """Return the report of the frame with this stamp."""
        if stamp_ns < self._last_ns:
            self.clear()
        if not abs(dioptres - self._position) <= _SAME_POSITION:
            # Where the lens stood when we began to listen, it has stood for an unknown time.
            self._first = math.isnan(self._position)
            self._position, self._since_ns, self._frames = dioptres, stamp_ns, 0
        self._last_ns = stamp_ns
        self._frames += 1
        state = self.model.state(self._frames, (stamp_ns - self._since_ns) * 1e-9)
        return LensReading(stamp_ns, dioptres, LensState.SETTLED if self._first else state)


def lens_position(values: Iterable[tuple[str, str]]) -> float | None:
    """Return the lens position in dioptres from the metadata of a libcamera frame.

    :param values: keys and values of a ``diagnostic_msgs/DiagnosticStatus`` as camera_ros
        publishes it, all strings.
    :returns: None where the key is absent; NaN where its value is not a number.
    """
    for key, value in values:
        if key == LENS_POSITION_KEY:
            try:
                return float(value)
            except ValueError:
                return math.nan
    return None
