# SPDX-License-Identifier: Apache-2.0
"""Statistics of the depth node: callbacks, arriving images, transport and published depth."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
import math
from statistics import median
import threading
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
        numbers = (self.count, *self.busy, *self.elapsed)
        return {name: f'{value:.6g}' for name, value in zip(NAMES, numbers, strict=True)}

    @staticmethod
    def from_values(values: Mapping[str, str]) -> CallbackSummary | None:
        """Parse the result of :meth:`values`; None if the values do not contain it."""
        if NAMES[0] not in values:
            return None
        count, *times = (float(values[name]) for name in NAMES)
        return CallbackSummary(int(count), tuple(times[:3]), tuple(times[3:]))


class CallbackTimer:
    """Measures the callbacks that it wraps; all run on one thread."""

    def __init__(self) -> None:
        self._busy: deque[float] = deque(maxlen=WINDOW)
        self._elapsed: deque[float] = deque(maxlen=WINDOW)

    def timed(self, callback: Callable[P, R]) -> Callable[P, R]:

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


# Gaps between images of which the median is taken.
ARRIVAL_WINDOW = 21


class ArrivalStatistics:
    """Age and period of the images, by the steady clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gaps: deque[float] = deque(maxlen=ARRIVAL_WINDOW)

    def record(self) -> None:
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


# Newest pairs that are evaluated, and the number needed for a result.
_PAIRS, _MIN_PAIRS = 100, 20
# Seconds after which a missing image counts as lost.
_LOSS_TIMEOUT = 1.0
# Limits of the warning. A 640x480 image is 2 ms late with a good transport, 12 ms with the default
# settings of Fast DDS.
_LOST_SHARE, _LATE = 0.05, 0.05


@dataclass(frozen=True)
class TransportHealth:
    """Losses and delays of images.

    :param lost: share of the images that did not arrive.
    :param late: median delay of an image after its camera_info, in seconds.
    """

    lost: float
    late: float

    @property
    def problem(self) -> str | None:
        """Problem and remedy; None without a problem."""
        found = []
        if self.lost > _LOST_SHARE:
            found.append(f'{100.0 * self.lost:.0f} % of the images are lost')
        if self.late > _LATE:
            found.append(f'images arrive {1e3 * self.late:.0f} ms after their camera_info')
        if not found:
            return None
        return (
            f'{" and ".join(found)} on the way from the camera: set '
            'config/fastdds_large_images.xml in its process and in this one '
            '(large_image_transport:=true), or send less data'
        )


class TransportMonitor:
    """Compares the arrival of each image with that of the camera_info of equal stamp.

    A camera sends both together. The small camera_info arrives at once and gives the expected
    arrival of the image, by one clock and independent of the stamps.
    """

    def __init__(self) -> None:
        self._infos: OrderedDict[int, float] = OrderedDict()
        self._images: OrderedDict[int, float] = OrderedDict()
        # Seconds from info to image; None for a lost image.
        self._pairs: deque[float | None] = deque(maxlen=_PAIRS)

    def info(self, stamp_ns: int, now: float | None = None) -> None:
        """Record the arrival of a camera_info.

        :param now: seconds of the steady clock, for tests.
        """
        now = time.monotonic() if now is None else now
        if self._images.pop(stamp_ns, None) is not None:
            self._pairs.append(0.0)  # the image arrived first
            return
        self._infos[stamp_ns] = now
        while self._infos and now - next(iter(self._infos.values())) > _LOSS_TIMEOUT:
            self._infos.popitem(last=False)
            self._pairs.append(None)

    def image(self, stamp_ns: int, now: float | None = None) -> None:
        """Record the arrival of an image, valid or not."""
        now = time.monotonic() if now is None else now
        sent = self._infos.pop(stamp_ns, None)
        if sent is not None:
            self._pairs.append(now - sent)
            return
        self._images[stamp_ns] = now
        while len(self._images) > _PAIRS:
            self._images.popitem(last=False)

    @property
    def summary(self) -> TransportHealth | None:
        """Losses and delays; None before enough images arrived, or without camera_info."""
        came = [late for late in self._pairs if late is not None]
        # Without a single match the camera_info is not that of the images.
        if len(self._pairs) < _MIN_PAIRS or not came:
            return None
        return TransportHealth(1.0 - len(came) / len(self._pairs), median(came))


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
        return self.motion_px is not None and self.motion_px > self.max_motion_px

    def values(self) -> dict[str, str]:
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
