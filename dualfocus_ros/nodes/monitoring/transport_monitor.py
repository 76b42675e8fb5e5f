# SPDX-License-Identifier: Apache-2.0
"""Monitor of images that are lost or late on the way from the camera's process.

A camera sends an image and its camera_info together. The small camera_info arrives at once and
gives the expected arrival of the image, by one clock and independent of the stamps.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
import statistics
import time

# Newest pairs that are evaluated, and the number needed for a result.
_WINDOW, _MIN_PAIRS = 100, 20
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
    """Compares the arrival of each image with that of the camera_info of equal stamp."""

    def __init__(self) -> None:
        self._infos: OrderedDict[int, float] = OrderedDict()
        self._images: OrderedDict[int, float] = OrderedDict()
        # Seconds from info to image; None for a lost image.
        self._pairs: deque[float | None] = deque(maxlen=_WINDOW)

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
        while len(self._images) > _WINDOW:
            self._images.popitem(last=False)

    @property
    def summary(self) -> TransportHealth | None:
        """Losses and delays; None before enough images arrived, or without camera_info."""
        came = [late for late in self._pairs if late is not None]
        # Without a single match the camera_info is not that of the images.
        if len(self._pairs) < _MIN_PAIRS or not came:
            return None
        return TransportHealth(1.0 - len(came) / len(self._pairs), statistics.median(came))
