# SPDX-License-Identifier: Apache-2.0
"""Stacks from several cameras that look at the same scene at different focus, taken together."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import MIN_PLANES, FocalStack, Plane, StackFlag
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter


@dataclass(frozen=True)
class PlaneSynchronizerSettings:
    """How images of several cameras are brought together.

    :param focus_dioptres: the focus of each camera, in the order of their topics.
    :param tolerance_ns: largest difference between the stamps of one stack; 0 for equal stamps.
    :param min_size: fewest planes of a stack that lost some.
    :param timeout_ns: how long a stack waits for its last planes.
    :param max_pending: frames kept per camera.
    """

    focus_dioptres: tuple[float, ...]
    tolerance_ns: int = 10_000_000
    min_size: int = 3
    timeout_ns: int = 500_000_000
    max_pending: int = 8


@dataclass(frozen=True, eq=False)
class _PendingFrame:
    frame: Frame
    camera: PinholeCamera | None
    calibration: CameraCalibration | None


class PlaneSynchronizer:
    """Groups the frames of N cameras whose stamps lie within a tolerance.

    A frame that finds no partners is overtaken by the next complete stack or dropped after the
    timeout; with ``min_size`` planes it becomes a flagged stack.
    """

    def __init__(self, settings: PlaneSynchronizerSettings, stage_counter: StageCounter) -> None:
        self.settings = settings
        self._stage_counter = stage_counter
        self._pending: list[dict[int, _PendingFrame]] = [{} for _ in settings.focus_dioptres]
        self._format: tuple[tuple[int, ...], str] | None = None
        self._used_until = 0
        self._last_stamps = [0] * len(settings.focus_dioptres)
        self._idle_since: int | None = None

    @property
    def waiting(self) -> int:
        """How many cameras have a frame that waits for the others."""
        return sum(bool(frames) for frames in self._pending)

    def add(
        self,
        plane: int,
        frame: Frame,
        camera: PinholeCamera | None,
        calibration: CameraCalibration | None = None,
    ) -> list[FocalStack]:
        """Add a frame of camera ``plane``; return the stacks that it completes.

        :param camera: the intrinsics of the frame once it is rectified, if known.
        :param calibration: how to rectify it; None where it is rectified.
        """
        stamp = frame.stamp_ns
        if stamp <= 0:
            self._stage_counter.reject(Stage.MATCHED, 'zero_stamp', 'an image whose stamp is zero')
            return []
        self._notice_change(plane, frame)
        if stamp <= self._used_until:
            self._stage_counter.reject(
                Stage.MATCHED, 'late', f'an image of plane {plane} came after its stack was made'
            )
            return []
        pending = self._pending[plane]
        pending[stamp] = _PendingFrame(frame, camera, calibration)
        while len(pending) > self.settings.max_pending:
            self._drop(plane, min(pending))
        stacks = self._overdue(stamp)
        group = self._group(stamp)
        if len(group) == len(self._pending):
            stacks.append(self._take(group))
        return stacks

    def tick(self, now_ns: int) -> list[FocalStack]:
        """End what waits if no image has come for the timeout.

        :param now_ns: any clock that runs as the cameras'; called a few times a second.
        """
        if self._idle_since is None or now_ns < self._idle_since:
            self._idle_since = now_ns
        if now_ns - self._idle_since <= self.settings.timeout_ns:
            return []
        return self._overdue(max(self._last_stamps) + self.settings.timeout_ns + 1)

    def reset(self) -> None:
        """Forget everything, as after a jump of the clock."""
        for frames in self._pending:
            frames.clear()
        self._format = None
        self._used_until = 0
        self._last_stamps = [0] * len(self._pending)

    def _notice_change(self, plane: int, frame: Frame) -> None:
        if frame.stamp_ns < self._last_stamps[plane] - self.settings.timeout_ns:
            self._stage_counter.reject(
                Stage.STACKED, 'clock_jump', 'the stamps of the images have jumped back'
            )
            self.reset()
        self._idle_since = None
        self._last_stamps[plane] = frame.stamp_ns
        shape = frame.image.shape, frame.encoding
        if self._format is not None and shape != self._format:
            if any(self._pending):
                self._stage_counter.reject(
                    Stage.STACKED,
                    'format_changed',
                    f'plane {plane} is {shape[0][1]}x{shape[0][0]} {shape[1]}, '
                    f'before it was {self._format[0][1]}x{self._format[0][0]} {self._format[1]}',
                )
            for frames in self._pending:
                frames.clear()
        self._format = shape

    def _group(self, stamp: int) -> dict[int, int]:
        """Return the stamp of the best partner of each plane for a frame, as far as there is one.

        The stamps of a group span no more than the tolerance.
        """
        tolerance = self.settings.tolerance_ns
        group: dict[int, int] = {}
        low = high = stamp
        nearest = []
        for plane, frames in enumerate(self._pending):
            if frames:
                best = min(frames, key=lambda s: abs(s - stamp))
                nearest.append((abs(best - stamp), plane, best))
        for _, plane, best in sorted(nearest):
            if max(high, best) - min(low, best) <= tolerance:
                group[plane] = best
                low, high = min(low, best), max(high, best)
        return group

    def _overdue(self, now_ns: int) -> list[FocalStack]:
        stacks: list[FocalStack] = []
        while True:
            oldest = min((min(f) for f in self._pending if f), default=None)
            if oldest is None or now_ns - oldest <= self.settings.timeout_ns:
                return stacks
            group = self._group(oldest)
            if len(group) >= max(self.settings.min_size, MIN_PLANES):
                stacks.append(self._take(group))
            else:
                for plane, stamp in group.items():
                    self._drop(plane, stamp)

    def _take(self, group: dict[int, int]) -> FocalStack:
        newest = max(group.values())
        pictures = {plane: self._pending[plane].pop(stamp) for plane, stamp in group.items()}
        for plane, frames in enumerate(self._pending):
            for stamp in [s for s in frames if s <= newest]:
                self._drop(plane, stamp)
        self._used_until = newest
        for _ in pictures:
            self._stage_counter.count(Stage.MATCHED)
        self._stage_counter.count(Stage.STACKED)
        flags, sweep_extent = StackFlag.NONE, None
        if len(group) < len(self._pending):
            flags = StackFlag.PLANE_MISSING | StackFlag.PARTIAL
            sweep_extent = min(self.settings.focus_dioptres), max(self.settings.focus_dioptres)
        planes = [
            Plane(
                picture.frame.image,
                self.settings.focus_dioptres[plane],
                picture.frame.stamp_ns,
                picture.camera,
                plane,
                picture.calibration,
            )
            for plane, picture in pictures.items()
        ]
        planes.sort(key=lambda plane: (plane.stamp_ns, plane.sweep_index))
        frame_id = next(iter(pictures.values())).frame.frame_id
        return FocalStack(tuple(planes), frame_id, 0, flags, sweep_extent=sweep_extent)

    def _drop(self, plane: int, stamp: int) -> None:
        del self._pending[plane][stamp]
        self._stage_counter.reject(
            Stage.MATCHED,
            'unsynchronised',
            f'the other planes have no image within {self.settings.tolerance_ns * 1e-6:.1f} ms '
            f'of that of plane {plane} (stack.sync_tolerance)',
        )
