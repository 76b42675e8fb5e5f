# SPDX-License-Identifier: Apache-2.0
"""How far the data came: counts from the first image to the published depth, and why not further.

"Receives images, no error, no output" is the complaint that perception nodes get most. Every
message that goes no further is therefore counted under the stage that it did not reach and a
short reason, and the last one of each reason is kept in words.
"""

from __future__ import annotations

from dataclasses import dataclass
import enum
import threading


class Stage(enum.Enum):
    """The stages of the funnel, in order; frames up to MATCHED, stacks from STACKED on."""

    RECEIVED = 'received'
    VALID = 'valid'
    MATCHED = 'matched'
    STACKED = 'stacked'
    INFERRED = 'inferred'
    PUBLISHED = 'published'


@dataclass(frozen=True)
class Rejection:
    """Everything rejected for one reason.

    :param stage: the stage that was not reached.
    :param reason: a short name in snake_case, stable between releases.
    :param count: how many.
    :param text: the last case in words.
    :param serial: position of the last case among all rejections, the larger the later.
    """

    stage: Stage
    reason: str
    count: int
    text: str
    serial: int


@dataclass(frozen=True)
class StageCounts:
    """The state of a funnel at one moment."""

    counts: dict[Stage, int]
    rejections: tuple[Rejection, ...]

    @property
    def last(self) -> Rejection | None:
        """The rejection that happened last, or None."""
        return max(self.rejections, key=lambda rejection: rejection.serial, default=None)

    def rejected(self, reason: str) -> int:
        """Return how many were rejected for ``reason``."""
        return sum(r.count for r in self.rejections if r.reason == reason)


class StageCounter:
    """Counts that several threads may add to."""

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
        """Count one frame, report or stack that did not reach ``stage``."""
        with self._lock:
            self._serial += 1
            before = self._rejections.get((stage, reason))
            count = 1 if before is None else before.count + 1
            self._rejections[stage, reason] = Rejection(stage, reason, count, text, self._serial)

    def snapshot(self) -> StageCounts:
        """Return a consistent copy of all counts."""
        with self._lock:
            return StageCounts(dict(self._counts), tuple(self._rejections.values()))
