# SPDX-License-Identifier: Apache-2.0
"""Log of the reasons for which messages and stacks are rejected."""

from __future__ import annotations

import math
import time
from typing import Any

from dualfocus_ros.sweep.stage_counter import StageCounter

_PERIOD = 10.0
# Rejections that are part of every sweep or reported by other means.
_EXPECTED = frozenset(
    {'moving', 'superseded', 'reset', 'reconfigured', 'joined_midway', 'format_changed'}
)


class RejectionLog:
    """Warns of each reason for a rejection, at most once in 10 s."""

    def __init__(self, logger: Any, stage_counter: StageCounter) -> None:
        self._logger = logger
        self._stage_counter = stage_counter
        self._logged: dict[str, tuple[int, float]] = {}

    def update(self) -> None:
        """Log the rejections that are new since the last log line of their reason."""
        now = time.monotonic()
        for rejection in self._stage_counter.snapshot().rejections:
            reason, count = rejection.reason, rejection.count
            logged, when = self._logged.get(reason, (0, -math.inf))
            if count > logged and now - when > _PERIOD and reason not in _EXPECTED:
                self._logged[reason] = (count, now)
                self._logger.warning(
                    f'not {rejection.stage.value}: {rejection.text} ({reason}, {count} so far)'
                )
