# SPDX-License-Identifier: Apache-2.0
"""Motion of a focus actuator: latency, then a critically damped approach to its target."""

from __future__ import annotations

from collections import deque
import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget

# (1 + x) exp(-x) = 0.02: a step is 98 % done after the settling time.
_SETTLED_AT = 5.8339
# Distance to the target in dioptres at which the lens locks.
_TOLERANCE = 0.01


class LensMotion:
    """A lens with inertia; the clock may jump back.

    :param target: position of the lens at rest before the first command.
    :param settling_time: seconds until 98 % of a step are done; 0: steps are immediate.
    :param latency: seconds from a command to the start of the movement.
    :raises ValueError: for negative values.
    """

    def __init__(
        self, target: PlaneTarget, *, settling_time: float = 0.12, latency: float = 0.02
    ) -> None:
        if settling_time < 0.0 or latency < 0.0:
            raise ValueError(
                'lens settling_time and latency must not be negative, '
                f'got {settling_time}, {latency}'
            )
        self._rate = _SETTLED_AT / settling_time if settling_time > 0.0 else math.inf
        self._latency = latency
        self._target = target
        self._since = -math.inf
        self._offset = 0.0
        self._slope = 0.0
        self._pending: deque[tuple[float, PlaneTarget]] = deque()
        self._newest = -math.inf

    def command(self, target: PlaneTarget, time: float) -> None:
        """Move the lens to a target, from ``time`` seconds on."""
        self._handle_clock_jump(time)
        self._pending.append((time + self._latency, target))

    def at(self, time: float) -> LensReading:
        """Return the reading at ``time`` seconds."""
        self._handle_clock_jump(time)
        while self._pending and self._pending[0][0] <= time:
            start, target = self._pending.popleft()
            offset, velocity = self._offset_at(start)
            self._offset = offset + self._target.dioptres - target.dioptres
            self._slope = velocity + self._rate * self._offset if self._offset else velocity
            self._target, self._since = target, start
        offset, _ = self._offset_at(time)
        return LensReading(
            round(time * 1e9),
            self._target.dioptres + offset,
            LensState.MOVING if offset else LensState.SETTLED,
            *self._target.plane_id,
        )

    def _offset_at(self, time: float) -> tuple[float, float]:
        """Return distance to the target in dioptres and velocity in dioptres per second."""
        elapsed = time - self._since
        if math.isinf(self._rate) or math.isinf(elapsed) or self._rate * elapsed > 50.0:
            return 0.0, 0.0
        fade = math.exp(-self._rate * elapsed)
        offset = (self._offset + self._slope * elapsed) * fade
        velocity = (self._slope - self._rate * (self._offset + self._slope * elapsed)) * fade
        if abs(offset) < _TOLERANCE and abs(velocity) < _TOLERANCE * self._rate:
            return 0.0, 0.0
        return offset, velocity

    def _handle_clock_jump(self, time: float) -> None:
        """Shift all stored times when the clock jumps back."""
        if time < self._newest:
            jump = time - self._newest
            self._since += jump
            self._pending = deque((start + jump, target) for start, target in self._pending)
        self._newest = time
