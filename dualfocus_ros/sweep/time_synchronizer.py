# SPDX-License-Identifier: Apache-2.0
"""Match the image, the lens reading and the camera calibration of one exposure.

All three carry the same stamp, to the nanosecond; messages of different stamps never match. One
topic may run ahead of another by any number of sweeps, as in a burst. A message is dropped and
counted when a message of the other topic is newer by more than the window, when it has waited for
the window by the clock, or when too many wait.

``message_filters`` is not used: it keeps its lock after an exception in a callback and does not
recover from a clock that jumps back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE
from dualfocus_ros.sweep.frames import Frame, MatchedFrame
from dualfocus_ros.sweep.reading_filter import check_reading, format_stamp
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

Item = TypeVar('Item')


@dataclass(frozen=True)
class TimeSynchronizerSettings:
    """Limits of the matching.

    :param window_ns: longest wait of a frame for its reading and of a reading for its frame, in
        stamps of the other topic and by the clock; also the largest step back of a topic's stamps
        that is not a jump.
    :param max_pending: most frames that wait (three of the largest sweeps); the oldest is dropped.
    :param exact_cameras: use the calibration of the frame's stamp; otherwise the newest.
    """

    window_ns: int = 500_000_000
    max_pending: int = 96
    exact_cameras: bool = True


class StampedBuffer(Generic[Item]):
    """Items of one topic, keyed by stamp in nanoseconds.

    :ivar newest: newest stamp ever added; None: none since the last clear.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove all items."""
        self.items: dict[int, Item] = {}
        self.newest: int | None = None
        # Clock time at which each item was first seen by `overdue`.
        self._first_seen: dict[int, int] = {}

    def add(self, stamp: int, item: Item) -> None:
        """Add an item; an item of equal stamp is replaced."""
        self.items[stamp] = item
        self.newest = stamp if self.newest is None else max(self.newest, stamp)

    def remove_after(self, limit: int) -> None:
        """Remove items newer than ``limit``, after the clock was set back."""
        for stamp in [stamp for stamp in self.items if stamp > limit]:
            del self.items[stamp]
        if self.newest is not None:
            self.newest = min(self.newest, limit)

    def remove_before(self, limit: int) -> None:
        """Remove items older than ``limit``."""
        for stamp in [stamp for stamp in self.items if stamp < limit]:
            del self.items[stamp]

    def has_passed(self, stamp: int, window: int = 0) -> bool:
        """Return whether an item more than ``window`` newer than ``stamp`` was added."""
        return self.newest is not None and self.newest - window > stamp

    def overdue(self, now: int, window: int) -> set[int]:
        """Return the stamps of items that waited longer than ``window`` by the clock."""
        if any(now < since for since in self._first_seen.values()):
            self._first_seen.clear()  # the clock was set back
        self._first_seen = {stamp: self._first_seen.get(stamp, now) for stamp in self.items}
        return {stamp for stamp, since in self._first_seen.items() if now - since > window}


class ExactTimeSynchronizer:
    """Matching of frames, lens readings and camera calibrations by equal stamp.

    A missing calibration drops no frame. With ``exact_cameras`` frames wait for calibrations from
    the first calibration on whose stamp is that of a frame. A frame whose calibration was lost
    takes the nearest one when a later calibration arrives, and none after the window. Frames stay
    in order.

    :param stage_counter: counts matched frames and the reasons of rejections.
    :ivar jumped_to: newest stamp kept by the last call, if the stamps jumped back; else None.
    """

    def __init__(self, settings: TimeSynchronizerSettings, stage_counter: StageCounter) -> None:
        self.settings = settings
        self._stage_counter = stage_counter
        self._reject = partial(stage_counter.reject, Stage.MATCHED)
        self._frames: StampedBuffer[Frame] = StampedBuffer()
        self._readings: StampedBuffer[LensReading] = StampedBuffer()
        self._cameras: StampedBuffer[CameraCalibration] = StampedBuffer()
        self._buffers: tuple[StampedBuffer[Any], ...] = self._frames, self._readings, self._cameras
        self._max_readings = 4 * settings.max_pending
        # Stamps already matched or dropped, to recognize repeated messages.
        self._done: deque[int] = deque(maxlen=self._max_readings)
        self._disputed: dict[int, str] = {}
        self._cameras_match = False
        self.jumped_to: int | None = None

    @property
    def pending_frames(self) -> int:
        """Number of frames that wait."""
        return len(self._frames.items)

    def add_frame(self, frame: Frame) -> list[MatchedFrame]:
        """Add a frame; return the frames that it completes, oldest first."""
        self.jumped_to = None
        if not self._has_stamp(frame.stamp_ns, 'an image'):
            return []
        self._handle_clock_jump(self._frames, frame.stamp_ns)
        if frame.stamp_ns in self._frames.items or frame.stamp_ns in self._done:
            self._reject(
                'duplicate_stamp', f'a second image with the stamp {format_stamp(frame.stamp_ns)}'
            )
            return []
        self._frames.add(frame.stamp_ns, frame)
        return self._complete(frame.stamp_ns)

    def add_reading(self, reading: LensReading) -> list[MatchedFrame]:
        """Add a lens reading; return the frames that it completes, oldest first."""
        self.jumped_to = None
        if not self._has_stamp(reading.stamp_ns, 'a focus report'):
            return []
        self._handle_clock_jump(self._readings, reading.stamp_ns)
        if reading.stamp_ns in self._done:
            return []
        before = self._readings.items.get(reading.stamp_ns)
        if before is not None and abs(before.dioptres - reading.dioptres) > FOCUS_TOLERANCE:
            # Two sources of focus, or a wrong stamp: either reading may be the right one.
            self._disputed[reading.stamp_ns] = (
                f'one report says {before.dioptres:.3f}, another {reading.dioptres:.3f} dioptres '
                f'at {format_stamp(reading.stamp_ns)}: are there two sources of focus?'
            )
        self._readings.add(reading.stamp_ns, reading)
        return self._complete(reading.stamp_ns)

    def add_camera(self, stamp_ns: int, calibration: CameraCalibration) -> list[MatchedFrame]:
        """Add a calibration; return the frames that waited for it, oldest first."""
        self.jumped_to = None
        self._handle_clock_jump(self._cameras, stamp_ns)
        self._cameras.add(stamp_ns, calibration)
        while len(self._cameras.items) > self._max_readings:
            del self._cameras.items[min(self._cameras.items)]
        if stamp_ns in self._done:
            self._cameras_match = True
        return self._complete(*[s for s in self._frames.items if s <= stamp_ns])

    def tick(self, now_ns: int) -> list[MatchedFrame]:
        """Drop overdue messages; return overdue frames that lack only a calibration.

        :param now_ns: any clock of the camera's rate.
        """
        self.jumped_to = None
        window = self.settings.window_ns
        frames = self._frames.overdue(now_ns, window)
        readings = self._readings.overdue(now_ns, window)
        return self._complete(frames=frames, readings=readings) if frames or readings else []

    def clear(self, reason: str, text: str) -> None:
        """Drop all messages with a rejection, and stop waiting for calibrations."""
        self._reject_all(self._frames.items, reason, text)
        for buffer in self._buffers:
            buffer.clear()
        self._done.clear()
        self._disputed.clear()
        self._cameras_match = False

    def drop_frames(self, before: int, reason: str, text: str) -> None:
        """Drop all frames with a rejection, and readings and calibrations older than ``before``.

        The reading and the calibration of a frame of another format may precede it, so newer ones
        stay.
        """
        self._reject_all(self._frames.items, reason, text)
        self._frames.clear()
        self._readings.remove_before(before)
        self._cameras.remove_before(before)
        self._done.clear()

    def _has_stamp(self, stamp: int, message: str) -> bool:
        if stamp > 0:
            return True
        self._reject('zero_stamp', f'{message} whose stamp is zero')
        return False

    def _handle_clock_jump(self, buffer: StampedBuffer[Any], stamp: int) -> None:
        """Drop future messages if the stamps of this topic jumped back, as in a looping bag."""
        window = self.settings.window_ns
        if buffer.newest is None or stamp >= buffer.newest - window:
            return
        limit = stamp + window
        self._reject_all(
            [s for s in self._frames.items if s > limit],
            'clock_jump',
            f'the stamps have jumped back to {format_stamp(stamp)} while the image waited',
        )
        for other in self._buffers:
            other.remove_after(limit)
        self._done.clear()
        self._disputed.clear()
        self.jumped_to = limit

    def _reject_all(self, stamps: Iterable[int], reason: str, text: str) -> None:
        for _ in stamps:
            self._reject(reason, text)

    def _complete(
        self, *stamps: int, frames: Set[int] = frozenset(), readings: Set[int] = frozenset()
    ) -> list[MatchedFrame]:
        """Match frames of these stamps and drop overdue messages; return matches by stamp."""
        waited = self._cameras_match
        matched = [frame for stamp in stamps for frame in self._match(stamp)]
        matched += self._evict_frames(frames)
        self._evict_readings(readings)
        if waited and not self._cameras_match:
            for waiting in list(self._frames.items):
                matched += self._match(waiting)
        return sorted(matched, key=lambda frame: frame.stamp_ns)

    def _match(self, stamp: int) -> list[MatchedFrame]:
        """Return the matched frame of this stamp, in a list, if it is complete."""
        frame, reading = self._frames.items.get(stamp), self._readings.items.get(stamp)
        if frame is None or reading is None:
            return []
        calibration = self._cameras.items.get(stamp)
        if calibration is not None:
            self._cameras_match = True
        elif not self.settings.exact_cameras:
            newest = max(self._cameras.items, default=None)
            calibration = None if newest is None else self._cameras.items[newest]
        elif self._cameras_match:
            if not self._cameras.has_passed(stamp):
                return []
            # After a clock jump there may be no calibration.
            calibration = self._nearest_calibration(stamp) if self._cameras.items else None
        del self._frames.items[stamp], self._readings.items[stamp]
        self._done.append(stamp)
        rejection = check_reading(reading)
        if stamp in self._disputed:
            rejection = 'focus_disputed', self._disputed.pop(stamp)
        if rejection is not None:
            self._reject(*rejection)
            return []
        self._stage_counter.count(Stage.MATCHED)
        return [MatchedFrame(frame, reading, calibration)]

    def _nearest_calibration(self, stamp: int) -> CameraCalibration:
        """Return the calibration nearest in time to a frame whose calibration was lost."""
        # Distortion is constant and the focus moved little; one unrectified image among rectified
        # ones would be worse.
        nearest = min(self._cameras.items, key=lambda other: abs(other - stamp))
        self._reject(
            'camera_info_lost',
            f'no camera_info for the image of {format_stamp(stamp)}; it takes that of '
            f'{format_stamp(nearest)}',
        )
        return self._cameras.items[nearest]

    def _evict_frames(self, overdue: Set[int]) -> list[MatchedFrame]:
        """Drop frames without a reading; return those that lack only a calibration."""
        window = self.settings.window_ns
        waiting = sorted(self._frames.items)
        surplus = waiting[: max(0, len(waiting) - self.settings.max_pending)]
        matched: list[MatchedFrame] = []
        for stamp in waiting:
            expired = stamp in overdue or stamp in surplus
            if stamp in self._readings.items:
                if expired:
                    self._cameras_match = False
                    matched += self._match(stamp)
            elif expired or self._readings.has_passed(stamp, window):
                del self._frames.items[stamp]
                self._done.append(stamp)
                self._reject(
                    'no_focus',
                    f'no focus report for the image of {format_stamp(stamp)} within '
                    f'{window * 1e-9:.2f} s',
                )
        return matched

    def _evict_readings(self, overdue: Set[int]) -> None:
        """Drop readings without a frame."""
        window = self.settings.window_ns
        waiting = sorted(s for s in self._readings.items if s not in self._frames.items)
        surplus = waiting[: max(0, len(self._readings.items) - self._max_readings)]
        for stamp in waiting:
            if stamp in overdue or stamp in surplus or self._frames.has_passed(stamp, window):
                del self._readings.items[stamp]
                self._disputed.pop(stamp, None)
                self._reject(
                    'no_image',
                    f'no image for the focus report of {format_stamp(stamp)} within '
                    f'{window * 1e-9:.2f} s',
                )
