# SPDX-License-Identifier: Apache-2.0
"""Repeats that are shuffled between contestants, so that what disturbs hits all of them alike.

Whoever's turn it is runs once before it is timed: a camera has one network at work, stack after
stack, which need not fetch its weights and its memory back from another's hands.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any, Protocol, TypeVar

import numpy as np

PERCENTILES = (10, 50, 90)
MIN_REPEATS, MAX_REPEATS = 3, 30
RUNS_PER_TURN = 2
Name = TypeVar('Name', bound=Hashable)


@dataclass(frozen=True)
class TimingSample:
    """One run.

    :param total_ms: from the call to the result on the host.
    :param stages: milliseconds of its parts, by name.
    """

    total_ms: float
    stages: Mapping[str, float]


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of repeated runs, in milliseconds."""

    p10: float
    p50: float
    p90: float
    repeats: int

    @staticmethod
    def of(values: Sequence[float]) -> Percentiles:
        """Return the percentiles of one value or more.

        :raises ValueError: for no values.
        """
        if not values:
            raise ValueError('no run was timed')
        p10, p50, p90 = (float(np.percentile(values, p)) for p in PERCENTILES)
        return Percentiles(p10, p50, p90, len(values))

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            'p10': round(self.p10, 3),
            'p50': round(self.p50, 3),
            'p90': round(self.p90, 3),
            'repeats': self.repeats,
        }


class TimedTask(Protocol):
    """Something that can be run again and again."""

    def __call__(self) -> TimingSample:
        """Prepare, which is not timed, then run."""


def repeats_within(seconds: float, once: float) -> int:
    """Return how often to run what takes ``once`` seconds in a budget: 3 to 30 times."""
    if not once > 0.0:
        return MAX_REPEATS
    return min(max(math.ceil(seconds / once), MIN_REPEATS), MAX_REPEATS)


def interleave(repeats: Mapping[Name, int]) -> list[Name]:
    """Return an order in which each name comes as often as it says, spread evenly."""
    places = [
        ((turn + 0.5) / count, place, name)
        for place, (name, count) in enumerate(repeats.items())
        for turn in range(count)
    ]
    return [name for _, _, name in sorted(places)]


def measure_interleaved(
    tasks: Mapping[Name, TimedTask],
    seconds: float,
    announce: Callable[[int], None],
    progress: Callable[[int], Any],
) -> dict[Name, list[TimingSample]]:
    """Run every task once, which tells how often it fits the budget, then in turns.

    :param seconds: what each task's timed runs may take together, as far as 3 fit; those before
        them, one a turn, come on top.
    :param announce: told how many runs are still to come, once that is known.
    :param progress: told of each run that is done.
    """
    turns = {}
    for name, task in tasks.items():
        repeats = repeats_within(seconds, task().total_ms * 1e-3)
        turns[name] = math.ceil(repeats / RUNS_PER_TURN)
        progress(1)
    order = interleave(turns)
    announce(len(order) * (1 + RUNS_PER_TURN))
    samples: dict[Name, list[TimingSample]] = {name: [] for name in tasks}
    for name in order:
        tasks[name]()
        progress(1)
        for _ in range(RUNS_PER_TURN):
            samples[name].append(tasks[name]())
            progress(1)
    return samples


def stage_percentiles(
    samples: Sequence[TimingSample],
) -> tuple[Percentiles, dict[str, Percentiles]]:
    """Return the percentiles of the whole and of each stage, stages in the order of running."""
    names = list(dict.fromkeys(name for sample in samples for name in sample.stages))
    stages = {
        name: Percentiles.of([s.stages[name] for s in samples if name in s.stages])
        for name in names
    }
    return Percentiles.of([sample.total_ms for sample in samples]), stages
