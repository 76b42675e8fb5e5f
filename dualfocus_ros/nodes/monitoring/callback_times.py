# SPDX-License-Identifier: Apache-2.0
"""Durations of callbacks, which block the executor's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
import time
from typing import ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')
# Number of newest callbacks in the summary.
WINDOW = 1000
NAMES = (
    'callbacks timed',
    *(
        f'callback, {time} {which} [ms]'
        for time in ('processor', 'clock')
        for which in ('median', '99 %', 'longest')
    ),
)


@dataclass(frozen=True)
class CallbackSummary:
    """Durations of the newest callbacks in milliseconds.

    :param count: number of callbacks.
    :param busy: median, 99th percentile and maximum of the CPU time.
    :param elapsed: the same of the wall time, which includes waiting for the CPU and the GIL.
    """

    count: int
    busy: tuple[float, ...]
    elapsed: tuple[float, ...]

    def values(self) -> dict[str, str]:
        """Return the key values of the diagnostics."""
        return {name: f'{value:.6g}' for name, value in zip(NAMES, self._numbers(), strict=True)}

    @staticmethod
    def from_values(values: Mapping[str, str]) -> CallbackSummary | None:
        """Parse the result of :meth:`values`; None if the values do not contain it."""
        if NAMES[0] not in values:
            return None
        count, *times = (float(values[name]) for name in NAMES)
        return CallbackSummary(int(count), tuple(times[:3]), tuple(times[3:]))

    def _numbers(self) -> tuple[float, ...]:
        return (self.count, *self.busy, *self.elapsed)


class CallbackTimer:
    """Measures the callbacks that it wraps; all run on one thread."""

    def __init__(self) -> None:
        self._busy: deque[float] = deque(maxlen=WINDOW)
        self._elapsed: deque[float] = deque(maxlen=WINDOW)

    def timed(self, callback: Callable[P, R]) -> Callable[P, R]:
        """Wrap a callback to measure its duration."""

        @wraps(callback)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            busy, began = time.thread_time(), time.perf_counter()
            try:
                return callback(*args, **kwargs)
            finally:
                self._busy.append(time.thread_time() - busy)
                self._elapsed.append(time.perf_counter() - began)

        return run

    def summary(self) -> CallbackSummary | None:
        """Return the durations of the newest callbacks; None before the first has ended."""
        if not self._busy:
            return None
        return CallbackSummary(len(self._busy), _spread(self._busy), _spread(self._elapsed))


def _spread(seconds: Iterable[float]) -> tuple[float, ...]:
    """Return median, 99th percentile and maximum in ms; faster than numpy for so few."""
    values = sorted(seconds)
    last = len(values) - 1
    return tuple(1e3 * values[index] for index in (last // 2, round(0.99 * last), last))
