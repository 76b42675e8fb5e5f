# SPDX-License-Identifier: Apache-2.0
"""How a focus actuator moves: latency, then a critically damped approach to its target."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math

# (1 + x) exp(-x) = 0.02: a step is 98 % done after the settling time.
_SETTLED_AT = 5.8339


@dataclass(frozen=True)
class PlaneTarget:
    """A commanded focus and the place in a sweep that it was commanded for."""

    focus_dioptres: float
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0


@dataclass(frozen=True)
class LensReading:
    """Where the lens is.

    :param focus_dioptres: actual position.
    :param moving: whether it is still on its way.
    :param order: the command that it obeys.
    """

    focus_dioptres: float
    moving: bool
    order: PlaneTarget


class LensMotion:
    """A lens with inertia; time only needs to be monotonic, a jump back is survived.

    :param order: where the lens rests at first.
    :param settling_time: seconds until 98 % of a step are done; 0 moves at once.
    :param latency: seconds from a command to the start of the movement.
    :param tolerance: dioptres from the target within which the lens locks in place.
    :raises ValueError: for negative values.
    """

    def __init__(
        self,
        order: PlaneTarget,
        *,
        settling_time: float = 0.12,
        latency: float = 0.02,
        tolerance: float = 0.01,
    ) -> None:
        if settling_time < 0.0 or latency < 0.0 or tolerance < 0.0:
            raise ValueError(
                'lens settling_time, latency and tolerance must not be negative, '
                f'got {settling_time}, {latency}, {tolerance}'
            )
        self._rate = _SETTLED_AT / settling_time if settling_time > 0.0 else math.inf
        self._latency = latency
        self._tolerance = max(tolerance, 1e-6)
        self._order = order
        self._since = -math.inf
        self._offset = 0.0
        self._slope = 0.0
        self._pending: deque[tuple[float, PlaneTarget]] = deque()
        self._newest = -math.inf

    def command(self, order: PlaneTarget, time: float) -> None:
        """Send the lens to another focus at ``time`` seconds."""
        self._watch(time)
        self._pending.append((time + self._latency, order))

    def at(self, time: float) -> LensReading:
        """Return the reading at ``time`` seconds."""
        self._watch(time)
        while self._pending and self._pending[0][0] <= time:
            start, order = self._pending.popleft()
            offset, velocity = self._state(start)
            self._offset = offset + self._order.focus_dioptres - order.focus_dioptres
            self._slope = velocity + self._rate * self._offset if self._offset else velocity
            self._order, self._since = order, start
        offset, _ = self._state(time)
        return LensReading(self._order.focus_dioptres + offset, offset != 0.0, self._order)

    def _state(self, time: float) -> tuple[float, float]:
        """Return the distance from the target and the velocity, in dioptres and per second."""
        elapsed = time - self._since
        if math.isinf(self._rate) or math.isinf(elapsed) or self._rate * elapsed > 50.0:
            return 0.0, 0.0
        fade = math.exp(-self._rate * elapsed)
        offset = (self._offset + self._slope * elapsed) * fade
        velocity = (self._slope - self._rate * (self._offset + self._slope * elapsed)) * fade
        if abs(offset) < self._tolerance and abs(velocity) < self._tolerance * self._rate:
            return 0.0, 0.0
        return offset, velocity

    def _watch(self, time: float) -> None:
        """Shift everything remembered when the clock jumps back."""
        if time < self._newest:
            jump = time - self._newest
            self._since += jump
            self._pending = deque((start + jump, order) for start, order in self._pending)
        self._newest = time
