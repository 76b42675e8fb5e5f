# SPDX-License-Identifier: Apache-2.0
"""Age and period of the images that arrive."""

from __future__ import annotations

from collections import deque
from statistics import median
import time

# Gaps between images of which the median is taken.
ARRIVAL_WINDOW = 21


class ArrivalStatistics:
    """Age and period of the images, by the steady clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gaps: deque[float] = deque(maxlen=ARRIVAL_WINDOW)

    def record(self) -> None:
        """Record the arrival of an image."""
        now = time.monotonic()
        if self._last is not None:
            self._gaps.append(now - self._last)
        self._last = now

    @property
    def period(self) -> float | None:
        """Median gap between the newest images in seconds: robust to bursts and pauses."""
        return median(self._gaps) if self._gaps else None

    @property
    def age(self) -> float | None:
        """Seconds since the last image, None before the first."""
        return None if self._last is None else time.monotonic() - self._last
