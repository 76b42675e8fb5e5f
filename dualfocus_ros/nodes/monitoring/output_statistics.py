# SPDX-License-Identifier: Apache-2.0
"""Statistics of the published depth: rate, latency and quality."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math
import threading
import time

_RATE_WINDOW = 10.0


@dataclass(frozen=True)
class StackQuality:
    """Quality of a stack and its depth.

    :param valid_share: share of the pixels with a depth.
    :param has_points: whether the intrinsics were known.
    :param motion_px: largest displacement of a plane; NaN where none could be measured, None
        where alignment is off.
    :param max_motion_px: limit above which the stack is flagged.
    :param unaligned: planes without enough texture for alignment.
    :param brightness_ratio: of the brightest plane to the darkest.
    :param clipped: whether planes are clipped to white in more than a few pixels.
    """

    valid_share: float = 1.0
    has_points: bool = True
    motion_px: float | None = None
    max_motion_px: float = math.inf
    unaligned: tuple[int, ...] = ()
    brightness_ratio: float = 1.0
    clipped: bool = False

    @property
    def moved(self) -> bool:
        """Whether a plane was displaced by more than the limit."""
        return self.motion_px is not None and self.motion_px > self.max_motion_px

    def values(self) -> dict[str, str]:
        """Return the key values of the diagnostics."""
        values = {'valid share': f'{self.valid_share:.3f}'}
        if self.motion_px is not None:
            values['motion [px]'] = f'{self.motion_px:.2f}'
            unaligned = ', '.join(str(plane) for plane in self.unaligned)
            values['planes without texture to align'] = unaligned or 'none'
        values['brightness of planes, largest ratio'] = f'{self.brightness_ratio:.3f}'
        values['clipped to white'] = str(self.clipped).lower()
        return values


class OutputStatistics:
    """Rate, age and latency of the published depth; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=1000)
        self._latencies: deque[float] = deque(maxlen=100)
        self.stages: dict[str, float] = {}
        self.error: str | None = None
        # Stacks that ran out of memory, even if a second attempt succeeded.
        self.out_of_memory_count = 0
        self.quality = StackQuality()
        # Depth images without a valid pixel.
        self.empty = 0

    def record(self, latency_ms: float, stages: dict[str, float], quality: StackQuality) -> None:
        """Record a published depth; clears the error."""
        with self._lock:
            self._times.append(time.monotonic())
            self._latencies.append(latency_ms)
            self.stages = dict(stages)
            self.quality = quality
            self.empty += quality.valid_share == 0.0
            self.error = None

    def fail(self, text: str) -> None:
        """Record the error of a failed stack."""
        with self._lock:
            self.error = text

    def summary(self) -> tuple[float, float | None, list[float]]:
        """Return rate in Hz, seconds since the last depth (None before the first), latencies."""
        with self._lock:
            now = time.monotonic()
            recent = [t for t in self._times if now - t <= _RATE_WINDOW]
            rate = 0.0
            if len(recent) > 1:
                rate = (len(recent) - 1) / (recent[-1] - recent[0])
            age = now - self._times[-1] if self._times else None
            return rate, age, list(self._latencies)
