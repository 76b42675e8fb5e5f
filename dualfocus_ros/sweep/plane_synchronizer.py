# SPDX-License-Identifier: Apache-2.0
"""Assemble stacks from several cameras that view one scene at different focus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import MIN_PLANES, FocalStack, Plane, StackFlag
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter


@dataclass(frozen=True)
class PlaneSynchronizerSettings:
    """Settings of the synchronizer.

    :param focus_dioptres: focus of each camera, in the order of their topics.
    :param tolerance_ns: largest difference between the stamps of one stack; 0: equal stamps.
    :param min_size: fewest planes of an incomplete stack.
    :param timeout_ns: longest wait for the last planes of a stack.
    :param max_pending: frames kept per camera.
    """

    focus_dioptres: tuple[float, ...]
    tolerance_ns: int = 10_000_000
    min_size: int = 3
    timeout_ns: int = 500_000_000
    max_pending: int = 8


class PlaneSynchronizer:
    """Matching of the frames of N cameras by stamp, within a tolerance.

    Unmatched frames are dropped with the next complete stack. After the timeout a group of at
    least ``min_size`` frames becomes a flagged stack.
    """

    def __init__(self, settings: PlaneSynchronizerSettings, stage_counter: StageCounter) -> None:
        self.settings = settings
        self._stage_counter = stage_counter
        self._reject = partial(stage_counter.reject, Stage.MATCHED)
        # Planes and frame ids by stamp, for each camera.
        self._pending: list[dict[int, tuple[Plane, str]]] = [{} for _ in settings.focus_dioptres]
        self._idle_since: int | None = None
        self.reset()

    @property
    def waiting(self) -> int:
        """Number of cameras with a pending frame."""
        return sum(bool(frames) for frames in self._pending)

    def add(
        self,
        plane: int,
        frame: Frame,
        camera: PinholeCamera | None,
        calibration: CameraCalibration | None = None,
    ) -> list[FocalStack]:
        """Add a frame of camera ``plane``; return the stacks that it completes.

        :param camera: intrinsics of the rectified frame, if known.
        :param calibration: calibration of the frame; None: already rectified.
        """
        stamp = frame.stamp_ns
        if stamp <= 0:
            self._reject('zero_stamp', 'an image whose stamp is zero')
            return []
        self._handle_changes(plane, frame)
        if stamp <= self._used_until:
            self._reject('late', f'an image of plane {plane} arrived after its stack')
            return []
        pending = self._pending[plane]
        focus = self.settings.focus_dioptres[plane]
        pending[stamp] = (
            Plane(frame.image, focus, stamp, camera, plane, calibration),
            frame.frame_id,
        )
        while len(pending) > self.settings.max_pending:
            self._drop(plane, min(pending))
        stacks = self._take_overdue(stamp)
        group = self._group(stamp)
        if len(group) == len(self._pending):
            stacks.append(self._take(group))
        return stacks

    def tick(self, now_ns: int) -> list[FocalStack]:
        """Return the stacks of overdue frames if no image arrived for the timeout.

        :param now_ns: any clock of the cameras' rate; call this several times a second.
        """
        if self._idle_since is None or now_ns < self._idle_since:
            self._idle_since = now_ns
        if now_ns - self._idle_since <= self.settings.timeout_ns:
            return []
        return self._take_overdue(max(self._last_stamps) + self.settings.timeout_ns + 1)

    def reset(self) -> None:
        """Forget all frames, for example after a jump of the clock."""
        for frames in self._pending:
            frames.clear()
        self._format: tuple[tuple[int, ...], str] | None = None
        self._used_until = 0
        self._last_stamps = [0] * len(self._pending)

    def _handle_changes(self, plane: int, frame: Frame) -> None:
        """Handle a jump of the stamps or a change of the image format."""
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
        """Return plane -> stamp of the best partners of a frame, within the tolerance."""
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

    def _take_overdue(self, now_ns: int) -> list[FocalStack]:
        """Return the stacks of overdue groups; drop those that are too small."""
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
        """Return the stack of a group; drop all older frames."""
        newest = max(group.values())
        taken = [self._pending[plane].pop(stamp) for plane, stamp in group.items()]
        for plane, frames in enumerate(self._pending):
            for stamp in [s for s in frames if s <= newest]:
                self._drop(plane, stamp)
        self._used_until = newest
        for _ in taken:
            self._stage_counter.count(Stage.MATCHED)
        self._stage_counter.count(Stage.STACKED)
        flags, extent = StackFlag.NONE, None
        if len(group) < len(self._pending):
            flags = StackFlag.PLANE_MISSING | StackFlag.PARTIAL
            extent = min(self.settings.focus_dioptres), max(self.settings.focus_dioptres)
        planes = sorted(
            (plane for plane, _ in taken), key=lambda plane: (plane.stamp_ns, plane.sweep_index)
        )
        _, frame_id = taken[0]
        return FocalStack(tuple(planes), frame_id, 0, flags, sweep_extent=extent)

    def _drop(self, plane: int, stamp: int) -> None:
        del self._pending[plane][stamp]
        self._reject(
            'unsynchronised',
            f'the other planes have no image within {self.settings.tolerance_ns * 1e-6:.1f} ms '
            f'of that of plane {plane} (stack.sync_tolerance)',
        )
