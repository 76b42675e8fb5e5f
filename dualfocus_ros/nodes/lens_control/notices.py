# SPDX-License-Identifier: Apache-2.0
"""Log messages with repeated warnings suppressed."""

from __future__ import annotations

from collections import deque
import math
from typing import NamedTuple

# Seconds without a warning after which it is logged again.
_QUIET = 60.0
_MAX_TEXTS = 50


class Notice(NamedTuple):
    """A log message."""

    warning: bool
    text: str


class NoticeQueue:
    """Queue of log messages; a warning that recurs is queued once."""

    def __init__(self) -> None:
        self._pending: deque[Notice] = deque()
        self._warned_at: dict[str, float] = {}

    def info(self, text: str) -> None:
        """Queue a message."""
        self._pending.append(Notice(False, text))

    def warn(self, text: str, now: float) -> bool:
        """Queue a warning unless it recurred within a minute; return whether it was queued."""
        last = self._warned_at.pop(text, -math.inf)
        self._warned_at[text] = now
        if len(self._warned_at) > _MAX_TEXTS:
            del self._warned_at[next(iter(self._warned_at))]
        if now - last <= _QUIET:
            return False
        self._pending.append(Notice(True, text))
        return True

    def take_all(self) -> list[Notice]:
        """Return all queued messages and empty the queue."""
        taken = list(self._pending)
        self._pending.clear()
        return taken
