# SPDX-License-Identifier: Apache-2.0
"""How long callbacks keep the executor's thread: while one runs, nothing else is heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
import time
from typing import ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')
# The newest callbacks that are told of.
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
    """Times of the newest callbacks in milliseconds.

    :param count: how many there were.
    :param busy: median, 99th percentile and longest time on the processor.
    :param elapsed: the same by the clock: with the time that others had the processor, or held
        the interpreter's lock.
    """

    count: int
    busy: tuple[float, ...]
    elapsed: tuple[float, ...]

    def values(self) -> dict[str, str]:
        """Return the key values of the diagnostics."""
        return {name: f'{value:.6g}' for name, value in zip(NAMES, self._figures(), strict=True)}

    @staticmethod
    def from_values(values: Mapping[str, str]) -> CallbackSummary | None:
        """Read what :meth:`values` wrote; None where that is not among the values."""
        if NAMES[0] not in values:
            return None
        count, *times = (float(values[name]) for name in NAMES)
        return CallbackSummary(int(count), tuple(times[:3]), tuple(times[3:]))

    def _figures(self) -> tuple[float, ...]:
        return (self.count, *self.busy, *self.elapsed)


class CallbackTimer:
    """Times callbacks that it has wrapped; all run on one thread."""

    def __init__(self) -> None:
        self._busy: deque[float] = deque(maxlen=WINDOW)
        self._elapsed: deque[float] = deque(maxlen=WINDOW)

    def timed(self, callback: Callable[P, R]) -> Callable[P, R]:
        """Return a callback that does the same and is timed."""

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
        """Return the times of the newest callbacks; None before the first has ended."""
        if not self._busy:
            return None
        return CallbackSummary(len(self._busy), _spread(self._busy), _spread(self._elapsed))


def _spread(seconds: Iterable[float]) -> tuple[float, ...]:
    """Return median, 99th percentile and maximum in ms; numpy would be slower for so few."""
    values = sorted(seconds)
    last = len(values) - 1
    return tuple(1e3 * values[index] for index in (last // 2, round(0.99 * last), last))
