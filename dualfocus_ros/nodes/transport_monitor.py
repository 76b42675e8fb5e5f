# SPDX-License-Identifier: Apache-2.0
"""Watches whether images are lost or late on their way from the camera's process.

A camera sends an image and its camera_info together. The info is small and comes through at once,
so it tells when the image should have come, by one clock and whatever the stamps are worth.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
import statistics
import time

# Pairs that are looked at, and how many have to be there before anything is said.
_WINDOW, _MIN_PAIRS = 100, 20
# Seconds after which an image that has not come is lost.
_LOSS_TIMEOUT = 1.0
# What is worth a warning. With a good transport a 640x480 image is 2 ms late, with the default
# settings of Fast DDS 12 ms.
_LOST_SHARE, _LATE = 0.05, 0.05


@dataclass(frozen=True)
class TransportHealth:
    """How images come through.

    :param lost: share of the images that have not come.
    :param late: median of the seconds by which an image comes after its camera_info.
    """

    lost: float
    late: float

    @property
    def problem(self) -> str | None:
        """What is wrong and what to do, None where nothing is."""
        found = []
        if self.lost > _LOST_SHARE:
            found.append(f'{100.0 * self.lost:.0f} % of the images are lost')
        if self.late > _LATE:
            found.append(f'images come {1e3 * self.late:.0f} ms after their camera_info')
        if not found:
            return None
        return (
            f'{" and ".join(found)} on the way from the camera: give its process and this one '
            'config/fastdds_large_images.xml (large_image_transport:=true), or send less'
        )


class TransportMonitor:
    """Compares the arrivals of images with those of camera_info of equal stamp."""

    def __init__(self) -> None:
        self._infos: OrderedDict[int, float] = OrderedDict()
        self._images: OrderedDict[int, float] = OrderedDict()
        # Seconds from info to image; None for an image that has not come.
        self._pairs: deque[float | None] = deque(maxlen=_WINDOW)

    def info(self, stamp_ns: int, now: float | None = None) -> None:
        """Note that a camera_info has come.

        :param now: seconds of the steady clock, for tests.
        """
        now = time.monotonic() if now is None else now
        if self._images.pop(stamp_ns, None) is not None:
            self._pairs.append(0.0)  # the image was even faster
            return
        self._infos[stamp_ns] = now
        while self._infos and now - next(iter(self._infos.values())) > _LOSS_TIMEOUT:
            self._infos.popitem(last=False)
            self._pairs.append(None)

    def image(self, stamp_ns: int, now: float | None = None) -> None:
        """Note that an image has come, of whatever content."""
        now = time.monotonic() if now is None else now
        sent = self._infos.pop(stamp_ns, None)
        if sent is not None:
            self._pairs.append(now - sent)
            return
        self._images[stamp_ns] = now
        while len(self._images) > _WINDOW:
            self._images.popitem(last=False)

    @property
    def summary(self) -> TransportHealth | None:
        """Return how images come through; None before enough have come, or without infos."""
        came = [late for late in self._pairs if late is not None]
        # Infos that never have an image's stamp are not those of the images.
        if len(self._pairs) < _MIN_PAIRS or not came:
            return None
        return TransportHealth(1.0 - len(came) / len(self._pairs), statistics.median(came))
