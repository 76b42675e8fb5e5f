# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: methods take turns, so that a disturbance affects all of them.

Each turn starts with an untimed run. A camera runs one network repeatedly, whose weights and
memory stay in the caches; without that run, a turn would also time reloading them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any, TypeVar

import numpy as np

MIN_REPEATS, MAX_REPEATS = 3, 30
RUNS_PER_TURN = 2
Name = TypeVar('Name', bound=Hashable)


@dataclass(frozen=True)
class TimingSample:
    """Times of one run.

    :param total_ms: from the call to the result on the host.
    :param stages: milliseconds by stage.
    """

    total_ms: float
    stages: Mapping[str, float]


# Prepares untimed, then runs.
TimedTask = Callable[[], TimingSample]


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """Return ``p10``, ``p50`` and ``p90`` of values, and their number ``repeats``, for JSON.

    :raises ValueError: for no values.
    """
    if not values:
        raise ValueError('no run was timed: expected at least one value')
    found: dict[str, Any] = {
        f'p{p}': round(float(np.percentile(values, p)), 3) for p in (10, 50, 90)
    }
    return {**found, 'repeats': len(values)}


def repeats_within(seconds: float, once: float) -> int:
    """Return the number of runs of ``once`` seconds each that fit a budget: 3 to 30."""
    if not once > 0.0:
        return MAX_REPEATS
    return min(max(math.ceil(seconds / once), MIN_REPEATS), MAX_REPEATS)


def interleave(repeats: Mapping[Name, int]) -> list[Name]:
    """Return an order in which each name occurs so many times, evenly spread."""
    places = [
        ((turn + 0.5) / count, place, name)
        for place, (name, count) in enumerate(repeats.items())
        for turn in range(count)
    ]
    return [name for _, _, name in sorted(places)]


def measure_interleaved(
    tasks: Mapping[Name, TimedTask],
    seconds: float,
    announce: Callable[[int], object] = lambda more: None,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[Name, list[TimingSample]]:
    """Time tasks in turns; a first run of each decides its number of repeats.

    :param seconds: budget of the timed runs of each task, at least 3 runs; the untimed run of
        each turn is additional.
    :param announce: called with the number of remaining runs after the first runs.
    :param progress: called with 1 after each run.
    :returns: samples by task.
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


def summarize(samples: Sequence[TimingSample]) -> dict[str, Any]:
    """Return the percentiles of ``total_ms`` and of each of ``stages``, in order of execution."""
    names = list(dict.fromkeys(name for sample in samples for name in sample.stages))
    return {
        'total_ms': percentiles([sample.total_ms for sample in samples]),
        'stages': {
            name: percentiles([s.stages[name] for s in samples if name in s.stages])
            for name in names
        },
    }
