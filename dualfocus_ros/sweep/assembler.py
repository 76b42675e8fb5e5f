# SPDX-License-Identifier: Apache-2.0
"""Assemble focal stacks from the frames of a focus sweep.

No clock and no ROS: the caller passes messages and ticks and receives stacks.

- Frames, lens readings and calibrations are matched by exact stamp (``time_synchronizer.py``).
- A stack is returned with the message that completes its sweep, without delay.
- An incomplete sweep ends when the next one begins, or without a new frame for ``timeout_ns``.
  With ``min_size`` planes it becomes a stack flagged PLANE_MISSING and PARTIAL that holds the
  range of the complete sweep; with fewer it is dropped and counted.
- Memory is bounded: ``max_pending`` waiting frames and two sweeps.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.sweep.frames import Frame, MatchedFrame
from dualfocus_ros.sweep.reading_filter import ReadingFilter
from dualfocus_ros.sweep.sliding_window import SlidingWindow
from dualfocus_ros.sweep.stack_builder import StackBuilder
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.sweep.sweep_detection import Sweep, start_sweep
from dualfocus_ros.sweep.time_synchronizer import ExactTimeSynchronizer, TimeSynchronizerSettings


@dataclass(frozen=True)
class AssemblerSettings:
    """Settings of the assembler.

    :param size: planes in a stack; 0: planes of the sweep.
    :param min_size: fewest planes of an incomplete sweep.
    :param timeout_ns: time without a new plane after which a sweep ends.
    :param accept_moving: use frames during which the lens moved.
    :param command_tolerance: largest distance of a lens at rest to its command, in dioptres; 0:
        any distance.
    :param sliding: one stack per frame, of the newest plane at each position; otherwise one per
        sweep.
    :param rectify: undistort planes whose calibration has distortion.
    :param synchronizer: settings of the matching by stamp.
    """

    size: int = 0
    min_size: int = 3
    timeout_ns: int = 2_000_000_000
    accept_moving: bool = False
    command_tolerance: float = 0.25
    sliding: bool = False
    rectify: bool = True
    synchronizer: TimeSynchronizerSettings = field(default_factory=TimeSynchronizerSettings)


@dataclass(frozen=True)
class SweepProgress:
    """Number of planes of a sweep; ``expected`` 0: unknown."""

    planes: int
    expected: int


class SweepAssembler:
    """Assembly of focal stacks: match messages, group frames into sweeps, build stacks.

    Each ``add_`` method returns the stacks that it completed, oldest first.

    :param stage_counter: counts frames, stacks and rejections.
    :param on_plane: called with each plane that joins a sweep without completing it.
    """

    def __init__(
        self,
        settings: AssemblerSettings,
        stage_counter: StageCounter,
        on_plane: Callable[[Plane], None] | None = None,
    ) -> None:
        self._settings = settings
        self._on_plane = on_plane
        self._stage_counter = stage_counter
        self._reject = partial(stage_counter.reject, Stage.STACKED)
        self._synchronizer = ExactTimeSynchronizer(settings.synchronizer, stage_counter)
        self._filter = ReadingFilter()
        self._builder = StackBuilder(stage_counter)
        self._sliding = SlidingWindow()
        self.reset()

    def reset(self) -> None:
        """Forget all messages and sweeps, for example after a jump of the clock."""
        self._synchronizer.clear('reset', 'the input was reset while the image waited')
        self._filter.commands.clear()
        self._builder.clear()
        self._sliding.clear()
        self._forget_sweep()
        self._format: tuple[tuple[int, ...], str, str] | None = None
        self._closed_until = 0
        # Stamp time for which an incomplete sweep stays open after the next one began. Messages of
        # one topic arrive in order, so waiting is useless until a frame has once been late.
        self._late_grace_ns = 0
        self._last_incomplete: SweepProgress | None = None
        # Planes published before this subscriber existed are not lost.
        self._has_closed_sweep = False

    def _forget_sweep(self) -> None:
        self._frames: list[MatchedFrame] = []
        self._previous: Sweep | None = None
        self._open: Sweep | None = None
        self._idle_since: int | None = None

    @property
    def settings(self) -> AssemblerSettings:
        """Current settings; changes apply from the next message on."""
        return self._settings

    @settings.setter
    def settings(self, settings: AssemblerSettings) -> None:
        if settings.sliding != self._settings.sliding or settings.size != self._settings.size:
            self.drop_sweep('reconfigured', 'the stack size or mode was changed')
        self._settings = settings
        self._synchronizer.settings = settings.synchronizer

    @property
    def progress(self) -> SweepProgress | None:
        """Planes of the sweep in progress, or of the last one if it was incomplete; else None."""
        if self._settings.sliding and self._sliding.planes:
            return SweepProgress(self._sliding.planes, self._sliding.expected)
        if self._open is None:
            return self._last_incomplete
        return SweepProgress(len(self._open.frames), self._open.expected)

    @property
    def in_progress(self) -> bool:
        """Whether a sweep is in progress."""
        return self._open is not None

    @property
    def pending_frames(self) -> int:
        """Number of frames that wait for a lens reading or a calibration."""
        return self._synchronizer.pending_frames

    @property
    def command_count(self) -> int:
        """Number of stored commands."""
        return len(self._filter.commands)

    def add_frame(self, frame: Frame) -> list[FocalStack]:
        """Add an image."""
        if frame.format != self._format:
            if self._format is not None:
                self._handle_format_change(frame)
            self._format = frame.format
        return self._add(self._synchronizer.add_frame(frame))

    def add_reading(self, reading: LensReading) -> list[FocalStack]:
        """Add a lens reading."""
        return self._add(self._synchronizer.add_reading(reading))

    def add_camera(self, stamp_ns: int, calibration: CameraCalibration) -> list[FocalStack]:
        """Add the calibration of the image of this stamp."""
        return self._add(self._synchronizer.add_camera(stamp_ns, calibration))

    def add_command(self, target: PlaneTarget) -> None:
        """Store the commanded focus of a plane, to compare readings with it."""
        self._filter.add_command(target)

    def tick(self, now_ns: int) -> list[FocalStack]:
        """Drop overdue messages; end the sweep after the timeout.

        :param now_ns: any clock of the camera's rate; call this several times a second.
        """
        stacks = self._add(self._synchronizer.tick(now_ns))
        if self._open is None:
            self._idle_since = None
            return stacks
        if self._idle_since is None or now_ns < self._idle_since:
            self._idle_since = now_ns
        if now_ns - self._idle_since <= self._settings.timeout_ns:
            return stacks
        stacks += self._close(self._open, 'the camera or the lens stopped')
        self._forget_sweep()
        return stacks

    def drop_sweep(self, reason: str, text: str) -> None:
        """Drop the sweep in progress, if any, with a rejection."""
        self._sliding.clear()
        if self._open is not None:
            self._last_incomplete = self.progress
            self._reject(reason, text)
        self._forget_sweep()

    def _add(self, frames: list[MatchedFrame]) -> list[FocalStack]:
        limit = self._synchronizer.jumped_to
        if limit is not None:
            self._handle_clock_jump(limit)
        stacks: list[FocalStack] = []
        for frame in frames:
            fault = self._filter.find_fault(
                frame.lens,
                accept_moving=self._settings.accept_moving,
                command_tolerance=self._settings.command_tolerance,
            )
            if fault is not None:
                self._reject(*fault)
                continue
            add = self._slide if self._settings.sliding else self._group
            stacks += add(self._with_camera(frame))
        return stacks

    def _with_camera(self, frame: MatchedFrame) -> MatchedFrame:
        """Return the frame with its camera; without its calibration if not to be rectified."""
        calibration = frame.calibration
        if calibration is None:
            return frame
        height, width = frame.frame.image.shape[:2]
        expected = (calibration.camera.width, calibration.camera.height)
        if expected != (width, height):
            self._stage_counter.reject(
                Stage.MATCHED,
                'camera_size',
                f'camera_info is for {expected[0]}x{expected[1]} pixels, '
                f'the image has {width}x{height}',
            )
            return replace(frame, calibration=None)
        distorted = self._settings.rectify and not calibration.is_rectified
        return replace(
            frame, camera=calibration.output, calibration=calibration if distorted else None
        )

    def _group(self, frame: MatchedFrame) -> list[FocalStack]:
        """Add a frame to its sweep; return the stacks of the sweeps that ended."""
        if frame.stamp_ns <= self._closed_until:
            self._late_grace_ns = self._settings.synchronizer.window_ns
            self._reject('late', 'a frame arrived after the end of its sweep')
            return []
        self._idle_since = None
        insort(self._frames, frame, key=lambda f: f.stamp_ns)
        stacks: list[FocalStack] = []
        while True:
            sweeps = self._split()
            self._open = sweeps[-1] if sweeps else None
            ended = self._first_ended(sweeps)
            if ended is not None:
                stacks += self._close(ended, 'the next sweep began')
                continue
            # Only the best frame of each position is kept.
            best = {f.stamp_ns: f for sweep in sweeps for f in sweep.frames}
            self._frames = [best[stamp] for stamp in sorted(best)]
            if self._on_plane is not None and frame.stamp_ns in best:
                self._on_plane(frame.plane)
            return stacks

    def _split(self) -> list[Sweep]:
        """Divide the frames into sweeps, without those of the sweep closed last."""
        sweeps: list[Sweep] = []
        current = self._previous
        for frame in self._frames:
            # A pause longer than the timeout ends a sweep.
            if current is None or frame.first_ns - current.last_stamp > self._settings.timeout_ns:
                current = start_sweep(frame, self._settings.size)
                sweeps.append(current)
            elif not current.try_add(frame):
                current = current.next_sweep(frame)
                sweeps.append(current)
        return sweeps

    def _first_ended(self, sweeps: list[Sweep]) -> Sweep | None:
        """Return the oldest sweep if it is complete, or a newer one has begun."""
        if not sweeps:
            return None
        oldest = sweeps[0]
        if any(sweep.complete for sweep in sweeps):
            return oldest
        overtaken_ns = self._frames[-1].stamp_ns - oldest.last_stamp
        return oldest if len(sweeps) > 1 and overtaken_ns > self._late_grace_ns else None

    def _close(self, sweep: Sweep, cause: str) -> list[FocalStack]:
        """End a sweep; return its stack in a list, empty if too few planes arrived."""
        frames = sweep.frames
        self._previous = sweep
        self._frames = [f for f in self._frames if f.stamp_ns > sweep.last_stamp]
        # Frames older than the next sweep belong to this one, and are late from now on.
        self._closed_until = self._frames[0].stamp_ns - 1 if self._frames else sweep.last_stamp
        counted = frames[0].lens.plane_count > 0
        lacks_first = counted and all(frame.lens.plane_index > 0 for frame in frames)
        joined_midway = lacks_first and not self._has_closed_sweep
        self._has_closed_sweep = True
        self._last_incomplete = None
        if len(frames) < sweep.expected:
            self._last_incomplete = SweepProgress(len(frames), sweep.expected)
            if joined_midway:
                self._reject(
                    'joined_midway',
                    f'sweep {frames[0].lens.sweep_id} had begun before the node subscribed',
                )
                return []
        return self._builder.build(frames, sweep.expected, self._settings.min_size, cause)

    def _slide(self, frame: MatchedFrame) -> list[FocalStack]:
        """Add a frame to the sliding window; return its stack in a list."""
        self._idle_since = None
        frames = self._sliding.add(frame, self._settings.size, self._settings.timeout_ns)
        expected, fewest = self._sliding.expected, self._settings.min_size
        return self._builder.build(frames, expected, fewest, 'planes were lost') if frames else []

    def _handle_format_change(self, frame: Frame) -> None:
        assert self._format is not None
        before, after = (
            f'{shape[1]}x{shape[0]} {encoding} in {frame_id!r}'
            for shape, encoding, frame_id in (self._format, frame.format)
        )
        text = f'images changed from {before} to {after}'
        self._synchronizer.drop_frames(frame.stamp_ns, 'format_changed', text)
        self.drop_sweep('format_changed', text)

    def _handle_clock_jump(self, limit: int) -> None:
        """Drop the sweep if it has stamps after ``limit``: the stamps jumped back."""
        if self._closed_until > limit or any(f.stamp_ns > limit for f in self._frames):
            self.drop_sweep('clock_jump', 'the stamps of the images have jumped back')
            self._closed_until = 0
            self._late_grace_ns = 0
