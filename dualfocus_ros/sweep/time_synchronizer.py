# SPDX-License-Identifier: Apache-2.0
"""Bring together the image, the focus report and the camera calibration of one exposure.

All three carry the same stamp, to the nanosecond; nothing is ever paired with a neighbour's.
One topic may run ahead of another by any number of sweeps, as in a burst: a message is given up
only once messages of its partner's topic have come from a window of stamp time later, once it has
waited for the window by the clock, or when too many wait. It is then counted. ``message_filters``
is not used: it keeps its lock after an exception in a callback and never recovers from a clock
that jumps back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass
import enum
import math
from typing import Generic, TypeVar

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FOCUS_TOLERANCE
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

MAX_FOCUS_DIOPTRES = 100.0

_Item = TypeVar('_Item')


class LensState(enum.IntEnum):
    """What the lens did during the exposure (``FocusState.state``)."""

    UNKNOWN = 0
    SETTLED = 1
    MOVING = 2
    FAULT = 3


@dataclass(frozen=True, eq=False)
class Frame:
    """One image as the camera sent it.

    :param image: (H, W, 3) RGB or (H, W) mono, uint8; the receiver owns it.
    :param encoding: the encoding of the message, only to notice that it changes.
    """

    stamp_ns: int
    image: np.ndarray
    frame_id: str = ''
    encoding: str = ''

    @property
    def format(self) -> tuple[tuple[int, ...], str, str]:
        """What must not change within one stack."""
        return self.image.shape, self.encoding, self.frame_id


@dataclass(frozen=True)
class LensReading:
    """Where the lens was at one stamp; ``plane_count`` 0 means not part of a sweep."""

    stamp_ns: int
    dioptres: float
    state: LensState = LensState.UNKNOWN
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0


@dataclass(frozen=True, eq=False)
class MatchedFrame:
    """A frame whose focus is known, with its calibration if there is one.

    :param calibration: of the image as it is; None also where there is nothing to rectify.
    :param camera: the intrinsics of the image once it is rectified.
    :param span_ns: first and last stamp of the frames at one position that this one stands for;
        None where it is the only one.
    """

    frame: Frame
    focus: LensReading
    calibration: CameraCalibration | None = None
    camera: PinholeCamera | None = None
    span_ns: tuple[int, int] | None = None

    @property
    def stamp_ns(self) -> int:
        return self.frame.stamp_ns

    @property
    def first_ns(self) -> int:
        """Since when the lens was at this position."""
        return self.stamp_ns if self.span_ns is None else self.span_ns[0]

    @property
    def last_ns(self) -> int:
        """Until when the lens was at this position."""
        return self.stamp_ns if self.span_ns is None else self.span_ns[1]


@dataclass(frozen=True)
class TimeSynchronizerSettings:
    """Bounds of the pairing.

    :param window_ns: how long a frame waits for its focus and the other way round: in the stamps
        of what it waits for, and by the clock; a stream whose own stamps go back by more than
        this has jumped.
    :param max_pending: how many frames may wait, three of the largest sweeps; the oldest is
        dropped.
    :param exact_cameras: use the calibration with the frame's own stamp; otherwise the newest.
    """

    window_ns: int = 500_000_000
    max_pending: int = 96
    exact_cameras: bool = True


class _Stream(Generic[_Item]):
    """Items of one topic by stamp."""

    def __init__(self) -> None:
        self.items: dict[int, _Item] = {}
        self.newest: int | None = None
        # When the clock first saw an item.
        self._seen: dict[int, int] = {}

    def add(self, stamp: int, item: _Item) -> None:
        self.items[stamp] = item
        self.newest = stamp if self.newest is None else max(self.newest, stamp)

    def forget_after(self, limit: int) -> None:
        """Remove what lies after ``limit``, because the clock has been set back."""
        for stamp in [stamp for stamp in self.items if stamp > limit]:
            del self.items[stamp]
        if self.newest is not None:
            self.newest = min(self.newest, limit)

    def forget_before(self, limit: int) -> None:
        """Remove what is older than ``limit``."""
        for stamp in [stamp for stamp in self.items if stamp < limit]:
            del self.items[stamp]

    def passed(self, stamp: int, window: int = 0) -> bool:
        """Return whether something has come from more than ``window`` after ``stamp``."""
        return self.newest is not None and self.newest - window > stamp

    def waited(self, now: int, window: int) -> set[int]:
        """Return the stamps of what has been here for longer than ``window`` by the clock."""
        if any(now < since for since in self._seen.values()):
            self._seen.clear()  # the clock was set back
        self._seen = {stamp: self._seen.get(stamp, now) for stamp in self.items}
        return {stamp for stamp, since in self._seen.items() if now - since > window}

    def clear(self) -> None:
        self.items.clear()
        self.newest = None
        self._seen.clear()


class ExactTimeSynchronizer:
    """Pairs frames, focus reports and camera calibrations of exactly equal stamp.

    A missing calibration costs no frame. With ``exact_cameras`` a frame waits for it only once
    one has been seen to carry a frame's stamp. When a later one comes its own is lost, and it
    takes the nearest; when none comes for the window it goes without. So frames keep their place
    in the sequence.

    :param funnel: counts matched frames and the reasons of the rejected ones.
    """

    def __init__(self, settings: TimeSynchronizerSettings, stage_counter: StageCounter) -> None:
        self.settings = settings
        self._stage_counter = stage_counter
        self._frames: _Stream[Frame] = _Stream()
        self._reports: _Stream[LensReading] = _Stream()
        self._cameras: _Stream[CameraCalibration] = _Stream()
        # Stamps that are done with, so that a repeated message is recognised.
        self._memory = 4 * settings.max_pending
        self._done: deque[int] = deque(maxlen=self._memory)
        self._disputed: dict[int, str] = {}
        self._cameras_match = False
        self.jumped_to: int | None = None

    def add_frame(self, frame: Frame) -> list[MatchedFrame]:
        """Add a frame; return the samples that it completes, oldest first."""
        self.jumped_to = None
        if not self._has_stamp(frame.stamp_ns, 'an image'):
            return []
        self._notice_jump(self._frames, frame.stamp_ns)
        if frame.stamp_ns in self._frames.items or frame.stamp_ns in self._done:
            self._stage_counter.reject(
                Stage.MATCHED,
                'duplicate_stamp',
                f'a second image with the stamp {_seconds(frame.stamp_ns)}',
            )
            return []
        self._frames.add(frame.stamp_ns, frame)
        return self._complete(frame.stamp_ns)

    def add_focus(self, report: LensReading) -> list[MatchedFrame]:
        """Add a focus report; return the samples that it completes, oldest first."""
        self.jumped_to = None
        if not self._has_stamp(report.stamp_ns, 'a focus report'):
            return []
        self._notice_jump(self._reports, report.stamp_ns)
        if report.stamp_ns in self._done:
            return []
        before = self._reports.items.get(report.stamp_ns)
        if before is not None and abs(before.dioptres - report.dioptres) > FOCUS_TOLERANCE:
            # Which one is right, nobody knows: two sources of focus, or a stamp that is wrong.
            self._disputed[report.stamp_ns] = (
                f'one report says {before.dioptres:.3f}, another {report.dioptres:.3f} dioptres '
                f'at {_seconds(report.stamp_ns)}: are there two sources of focus?'
            )
        self._reports.add(report.stamp_ns, report)
        return self._complete(report.stamp_ns)

    def add_camera(self, stamp_ns: int, calibration: CameraCalibration) -> list[MatchedFrame]:
        """Add a calibration; return the samples that waited for it."""
        self.jumped_to = None
        self._notice_jump(self._cameras, stamp_ns)
        self._cameras.add(stamp_ns, calibration)
        while len(self._cameras.items) > self._memory:
            del self._cameras.items[min(self._cameras.items)]
        if stamp_ns in self._done:
            self._cameras_match = True
        return self._complete(*[s for s in self._frames.items if s <= stamp_ns])

    def tick(self, now_ns: int) -> list[MatchedFrame]:
        """Let go of what has waited too long; return the frames that only lack a calibration.

        :param now_ns: any clock that runs as the camera's.
        """
        self.jumped_to = None
        window = self.settings.window_ns
        frames = self._frames.waited(now_ns, window)
        reports = self._reports.waited(now_ns, window)
        return self._complete(frames=frames, reports=reports) if frames or reports else []

    def clear(self, reason: str, text: str) -> None:
        """Forget everything that waits, and that calibrations were seen to match.

        :param reason: under which the frames that waited are counted, with its text.
        """
        self._give_up(self._frames.items, reason, text)
        for stream in (self._frames, self._reports, self._cameras):
            stream.clear()
        self._done.clear()
        self._disputed.clear()
        self._cameras_match = False

    def forget_frames(self, before: int, reason: str, text: str) -> None:
        """Forget all frames, and what is older than ``before`` and may have waited for one.

        The focus and the calibration of a frame of another format may have come before it.

        :param reason: under which the frames are counted, with its text.
        """
        self._give_up(self._frames.items, reason, text)
        self._frames.clear()
        self._reports.forget_before(before)
        self._cameras.forget_before(before)
        self._done.clear()

    def _has_stamp(self, stamp: int, what: str) -> bool:
        if stamp > 0:
            return True
        self._stage_counter.reject(Stage.MATCHED, 'zero_stamp', f'{what} whose stamp is zero')
        return False

    def _notice_jump(self, stream: _Stream[_Item], stamp: int) -> None:
        """Forget the future if this stream's own clock was set back (a bag that loops)."""
        window = self.settings.window_ns
        if stream.newest is None or stamp >= stream.newest - window:
            return
        limit = stamp + window
        self._give_up(
            [s for s in self._frames.items if s > limit],
            'clock_jump',
            f'the stamps have jumped back to {_seconds(stamp)} while the image waited',
        )
        for other in (self._frames, self._reports, self._cameras):
            other.forget_after(limit)
        self._done.clear()
        self._disputed.clear()
        self.jumped_to = limit

    def _give_up(self, stamps: Iterable[int], reason: str, text: str) -> None:
        for _ in stamps:
            self._stage_counter.reject(Stage.MATCHED, reason, text)

    def _complete(
        self, *stamps: int, frames: Set[int] = frozenset(), reports: Set[int] = frozenset()
    ) -> list[MatchedFrame]:
        """Match frames, evict what is overdue and return the samples by stamp.

        :param stamps: of the frames to match.
        :param frames: those that have waited too long by the clock; and so ``reports``.
        """
        waited = self._cameras_match
        samples = [sample for stamp in stamps for sample in self._match(stamp)]
        samples += self._evict_frames(frames)
        self._evict_reports(reports)
        if waited and not self._cameras_match:
            for waiting in list(self._frames.items):
                samples += self._match(waiting)
        return sorted(samples, key=lambda s: s.stamp_ns)

    def _match(self, stamp: int) -> list[MatchedFrame]:
        """Return the sample of this stamp, in a list, if all that it waits for is there."""
        frame, report = self._frames.items.get(stamp), self._reports.items.get(stamp)
        if frame is None or report is None:
            return []
        calibration = self._cameras.items.get(stamp)
        if calibration is not None:
            self._cameras_match = True
        elif not self.settings.exact_cameras:
            newest = max(self._cameras.items, default=None)
            calibration = None if newest is None else self._cameras.items[newest]
        elif self._cameras_match:
            if not self._cameras.passed(stamp):
                return []
            # A clock that was set back may have taken all of them.
            calibration = self._nearest_calibration(stamp) if self._cameras.items else None
        del self._frames.items[stamp], self._reports.items[stamp]
        self._done.append(stamp)
        reason = _unusable(report)
        if stamp in self._disputed:
            reason = 'focus_disputed', self._disputed.pop(stamp)
        if reason is not None:
            self._stage_counter.reject(Stage.MATCHED, *reason)
            return []
        self._stage_counter.count(Stage.MATCHED)
        return [MatchedFrame(frame, report, calibration)]

    def _nearest_calibration(self, stamp: int) -> CameraCalibration:
        """Return the calibration nearest in time to a frame whose own was lost.

        The lens distorts as before and the focus has moved little; an image that is not rectified
        among others that are would be worse.
        """
        nearest = min(self._cameras.items, key=lambda other: abs(other - stamp))
        self._stage_counter.reject(
            Stage.MATCHED,
            'camera_info_lost',
            f'no camera_info for the image of {_seconds(stamp)}; it takes that of '
            f'{_seconds(nearest)}',
        )
        return self._cameras.items[nearest]

    def _evict_frames(self, waited: Set[int]) -> list[MatchedFrame]:
        """Let go of frames that find no partner; those that only lack a calibration go on."""
        window = self.settings.window_ns
        waiting = sorted(self._frames.items)
        surplus = waiting[: max(0, len(waiting) - self.settings.max_pending)]
        samples: list[MatchedFrame] = []
        for stamp in waiting:
            overdue = stamp in waited or stamp in surplus
            if stamp in self._reports.items:
                if overdue:
                    self._cameras_match = False
                    samples += self._match(stamp)
            elif overdue or self._reports.passed(stamp, window):
                del self._frames.items[stamp]
                self._done.append(stamp)
                self._stage_counter.reject(
                    Stage.MATCHED,
                    'no_focus',
                    f'no focus report for the image of {_seconds(stamp)} within '
                    f'{window * 1e-9:.2f} s',
                )
        return samples

    def _evict_reports(self, waited: Set[int]) -> None:
        """Let go of reports that find no frame."""
        window = self.settings.window_ns
        reports = sorted(s for s in self._reports.items if s not in self._frames.items)
        surplus = reports[: max(0, len(self._reports.items) - self._memory)]
        for stamp in reports:
            if stamp in waited or stamp in surplus or self._frames.passed(stamp, window):
                del self._reports.items[stamp]
                self._disputed.pop(stamp, None)
                self._stage_counter.reject(
                    Stage.MATCHED,
                    'no_image',
                    f'no image for the focus report of {_seconds(stamp)} within '
                    f'{window * 1e-9:.2f} s',
                )


def _unusable(report: LensReading) -> tuple[str, str] | None:
    """Return why the report cannot place its image in a stack, or None."""
    at = f'at {_seconds(report.stamp_ns)}'
    if not math.isfinite(report.dioptres):
        return 'focus_unknown', f'the focus is not known {at}'
    if abs(report.dioptres) > MAX_FOCUS_DIOPTRES:
        return 'focus_out_of_range', (
            f'{report.dioptres:.1f} dioptres {at}; at most {MAX_FOCUS_DIOPTRES:.0f} are possible'
        )
    if report.state == LensState.FAULT:
        return 'lens_fault', f'the lens reports a fault {at}'
    return None


def _seconds(stamp_ns: int) -> str:
    return f'{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000:09d}'
