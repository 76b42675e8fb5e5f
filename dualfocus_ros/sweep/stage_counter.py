# SPDX-License-Identifier: Apache-2.0
"""Counts of frames and stacks at each stage, from the received image to the published depth.

The most frequent complaint about perception nodes is: images arrive, no error, no output. Each
message that does not reach a stage is therefore counted by stage and reason, and the last
explanation of each reason is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
import enum
import threading


class Stage(enum.Enum):
    """Processing stages in order; frames up to MATCHED, stacks from STACKED on."""

    RECEIVED = 'received'
    VALID = 'valid'
    MATCHED = 'matched'
    STACKED = 'stacked'
    INFERRED = 'inferred'
    PUBLISHED = 'published'


@dataclass(frozen=True)
class Rejection:
    """All rejections for one reason.

    :param stage: the stage that was not reached.
    :param reason: name in snake_case, stable between releases.
    :param count: number of rejections.
    :param text: explanation of the last one.
    :param serial: position of the last one among all rejections.
    """

    stage: Stage
    reason: str
    count: int
    text: str
    serial: int


@dataclass(frozen=True)
class StageCounts:
    """Counts at one moment."""

    counts: dict[Stage, int]
    rejections: tuple[Rejection, ...]

    @property
    def last(self) -> Rejection | None:
        """The last rejection, or None."""
        return max(self.rejections, key=lambda rejection: rejection.serial, default=None)

    def rejected(self, reason: str) -> int:
        """Return the number of rejections for ``reason``."""
        return sum(r.count for r in self.rejections if r.reason == reason)


class StageCounter:
    """Thread-safe counter of frames and stacks at each stage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Stage, 0)
        self._rejections: dict[tuple[Stage, str], Rejection] = {}
        self._serial = 0

    def count(self, stage: Stage) -> None:
        """Count one frame or stack that reached ``stage``."""
        with self._lock:
            self._counts[stage] += 1

    def reject(self, stage: Stage, reason: str, text: str) -> None:
        """Count one frame, reading or stack that did not reach ``stage``."""
        with self._lock:
            self._serial += 1
            before = self._rejections.get((stage, reason))
            count = 1 if before is None else before.count + 1
            self._rejections[stage, reason] = Rejection(stage, reason, count, text, self._serial)

    def snapshot(self) -> StageCounts:
        """Return a consistent copy of all counts."""
        with self._lock:
            return StageCounts(dict(self._counts), tuple(self._rejections.values()))
