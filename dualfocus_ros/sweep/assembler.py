# SPDX-License-Identifier: Apache-2.0
"""Turn the frames of a focus sweep into focal stacks.

A plain class without a clock and without ROS: it is given messages and ticks, and returns stacks.

- Frames, focus reports and calibrations are paired by exact stamp (``pairing.py``).
- A stack is returned with the message that completes its sweep, without delay.
- A sweep that lost planes ends when the next one begins, or when nothing has come for
  ``timeout_ns``; it becomes a stack flagged PLANE_MISSING and PARTIAL if it has ``min_size``
  planes, with the range that the whole sweep was to have, otherwise it is dropped and counted.
- Memory is bounded: ``max_pending`` frames that wait for a partner, and two sweeps.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import (
    FOCUS_TOLERANCE,
    MAX_PLANES,
    MIN_PLANES,
    FocalStack,
    Plane,
    StackFlag,
)
from dualfocus_ros.sweep.frames import Frame, MatchedFrame
from dualfocus_ros.sweep.sliding_window import SlidingWindow
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.sweep.sweep_detection import Sweep, start_sweep
from dualfocus_ros.sweep.sweep_extent import SweepExtent, estimate_extent
from dualfocus_ros.sweep.time_synchronizer import ExactTimeSynchronizer, TimeSynchronizerSettings

# Four of the largest sweeps: an image may come long after the command.
_COMMANDS_KEPT = 4 * MAX_PLANES


@dataclass(frozen=True)
class AssemblerSettings:
    """How stacks are made of frames.

    :param size: planes in a stack; 0 as the sweep says.
    :param min_size: fewest planes of a sweep that lost some.
    :param timeout_ns: a sweep that gets no plane for this long is over.
    :param accept_moving: use frames during which the lens moved.
    :param command_tolerance: farther from where it was sent a lens that does not say that it
        moves is not taken to be at rest, in dioptres; 0 for any distance.
    :param sliding: a stack with every frame, of the newest plane at each position, instead of
        one with every sweep.
    :param rectify: undistort planes whose calibration has distortion.
    """

    size: int = 0
    min_size: int = 3
    timeout_ns: int = 2_000_000_000
    accept_moving: bool = False
    command_tolerance: float = 0.25
    sliding: bool = False
    rectify: bool = True
    pairing: TimeSynchronizerSettings = field(default_factory=TimeSynchronizerSettings)


@dataclass(frozen=True)
class SweepProgress:
    """How much of the sweep in progress has arrived; ``expected`` 0 is not known."""

    planes: int
    expected: int


class SweepAssembler:
    """Pairs messages, groups frames into sweeps and returns focal stacks.

    Every method that adds something returns the stacks that it completed, oldest first.

    :param funnel: counts what got how far, and why not further.
    :param foresee: told of each plane that joins a sweep which it does not complete.
    """

    def __init__(
        self,
        settings: AssemblerSettings,
        stage_counter: StageCounter,
        foresee: Callable[[Plane], None] | None = None,
    ) -> None:
        self._settings = settings
        self._foresee = foresee
        self._stage_counter = stage_counter
        self._pairing = ExactTimeSynchronizer(settings.pairing, stage_counter)
        self._sliding = SlidingWindow()
        self._format: tuple[tuple[int, ...], str, str] | None = None
        self._samples: list[MatchedFrame] = []
        self._previous: Sweep | None = None
        self._open: Sweep | None = None
        self._closed_until = 0
        # How long, in stamp time, an incomplete sweep may still be completed after the next one
        # has begun. Messages of one topic come in order, so nothing is gained by waiting until
        # a frame has once come too late.
        self._late_grace_ns = 0
        self._idle_since: int | None = None
        self._last_drop: SweepProgress | None = None
        self._whole: SweepExtent | None = None
        # Focus in dioptres by number of the sweep, index of the plane and number of planes.
        self._commanded: dict[tuple[int, int, int], float] = {}
        # Nobody lost the planes that came before we listened.
        self._listened_from_start = False

    @property
    def settings(self) -> AssemblerSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: AssemblerSettings) -> None:
        if settings.sliding != self._settings.sliding or settings.size != self._settings.size:
            self.drop_sweep('reconfigured', 'the stack size or mode was changed')
        self._settings = settings
        self._pairing.settings = settings.pairing

    @property
    def progress(self) -> SweepProgress | None:
        """The sweep in progress, or else how the last incomplete one ended; None at first."""
        if self._settings.sliding and self._sliding.planes:
            return SweepProgress(self._sliding.planes, self._sliding.expected)
        sweep = self._open
        if sweep is None:
            return self._last_drop
        return SweepProgress(len(sweep.samples), sweep.expected)

    @property
    def in_progress(self) -> bool:
        """Whether a sweep has begun and not ended."""
        return self._open is not None

    def add_frame(self, frame: Frame) -> list[FocalStack]:
        """Add an image; see the class."""
        if frame.format != self._format:
            if self._format is not None:
                self._change_format(frame)
            self._format = frame.format
        return self._add(self._pairing.add_frame(frame))

    def add_reading(self, report: LensReading) -> list[FocalStack]:
        """Add a report of the lens position; see the class."""
        return self._add(self._pairing.add_reading(report))

    def add_camera(self, stamp_ns: int, calibration: CameraCalibration) -> list[FocalStack]:
        """Add the calibration of the image with this stamp; see the class."""
        return self._add(self._pairing.add_camera(stamp_ns, calibration))

    def add_command(self, order: PlaneTarget) -> None:
        """Take note of where the lens was sent for a plane of a counted sweep."""
        key = order.plane_id
        self._commanded.pop(key, None)
        self._commanded[key] = order.dioptres
        if len(self._commanded) > _COMMANDS_KEPT:
            del self._commanded[next(iter(self._commanded))]

    def tick(self, now_ns: int) -> list[FocalStack]:
        """Let go of what waits for too long; end a sweep that gets no plane for the timeout.

        :param now_ns: any clock that runs as the camera's; called a few times a second.
        """
        stacks = self._add(self._pairing.tick(now_ns))
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

    def reset(self) -> None:
        """Forget everything, as after a jump of the clock."""
        self._pairing.clear('reset', 'everything was begun anew while the image waited')
        self._sliding.clear()
        self._forget_sweep()
        self._format = None
        self._closed_until = 0
        self._late_grace_ns = 0
        self._last_drop = None
        self._whole = None
        self._commanded.clear()
        self._listened_from_start = False

    def drop_sweep(self, reason: str, text: str) -> None:
        """Drop the sweep in progress, if there is one, and count it under ``reason``."""
        self._sliding.clear()
        if self._open is not None:
            self._last_drop = self.progress
            self._stage_counter.reject(Stage.STACKED, reason, text)
        self._forget_sweep()

    def _add(self, samples: list[MatchedFrame]) -> list[FocalStack]:
        limit = self._pairing.jumped_to
        if limit is not None:
            self._set_back(limit)
        stacks: list[FocalStack] = []
        for sample in samples:
            if self._usable(sample.lens):
                ready = self._calibrated(sample)
                stacks += self._slide(ready) if self._settings.sliding else self._group(ready)
        return stacks

    def _usable(self, focus: LensReading) -> bool:
        if focus.state == LensState.MOVING and not self._settings.accept_moving:
            self._stage_counter.reject(
                Stage.STACKED,
                'moving',
                f'the lens was moving at {focus.dioptres:.3f} dioptres (stack.accept_moving)',
            )
            return False
        if focus.plane_count > MAX_PLANES:
            self._stage_counter.reject(
                Stage.STACKED,
                'too_many_planes',
                f'sweep {focus.sweep_id} has {focus.plane_count} planes; at most {MAX_PLANES}',
            )
            return False
        if focus.plane_count and focus.plane_index >= focus.plane_count:
            self._stage_counter.reject(
                Stage.STACKED,
                'bad_plane_index',
                f'plane {focus.plane_index} of a sweep of {focus.plane_count}',
            )
            return False
        return focus.state == LensState.MOVING or self._within_command_tolerance(focus)

    def _within_command_tolerance(self, focus: LensReading) -> bool:
        """Return whether a lens is where it was sent for this plane, as far as that is known."""
        if not focus.plane_count:
            return True
        key = focus.sweep_id, focus.plane_index, focus.plane_count
        commanded = self._commanded.get(key, math.nan)
        limit = self._settings.command_tolerance
        if limit == 0.0 or not abs(focus.dioptres - commanded) > limit:  # NaN: nobody knows
            return True
        self._stage_counter.reject(
            Stage.STACKED,
            'off_command',
            f'plane {focus.plane_index} of sweep {focus.sweep_id}: the lens was sent to '
            f'{commanded:.3f} dioptres and reports {focus.dioptres:.3f} '
            '(stack.command_tolerance)',
        )
        return False

    def _calibrated(self, sample: MatchedFrame) -> MatchedFrame:
        """Return the sample with its camera, and its calibration where that is to be applied."""
        calibration = sample.calibration
        if calibration is None:
            return sample
        height, width = sample.frame.image.shape[:2]
        expected = (calibration.camera.width, calibration.camera.height)
        if expected != (width, height):
            self._stage_counter.reject(
                Stage.MATCHED,
                'camera_size',
                f'camera_info is for {expected[0]}x{expected[1]} pixels, '
                f'the image has {width}x{height}',
            )
            return replace(sample, calibration=None)
        distorted = self._settings.rectify and not calibration.is_rectified
        return replace(
            sample, camera=calibration.output, calibration=calibration if distorted else None
        )

    def _group(self, sample: MatchedFrame) -> list[FocalStack]:
        if sample.stamp_ns <= self._closed_until:
            self._late_grace_ns = self._settings.pairing.window_ns
            self._stage_counter.reject(
                Stage.STACKED, 'late', 'a frame came after the end of the sweep that it belongs to'
            )
            return []
        self._idle_since = None
        insort(self._samples, sample, key=lambda s: s.stamp_ns)
        stacks: list[FocalStack] = []
        while True:
            sweeps = self._split()
            self._open = sweeps[-1] if sweeps else None
            ended = self._first_ended(sweeps)
            if ended is None:
                # Of the frames taken at one position only the best is kept.
                kept = {s.stamp_ns: s for sweep in sweeps for s in sweep.samples}
                self._samples = [kept[stamp] for stamp in sorted(kept)]
                if self._foresee is not None and sample.stamp_ns in kept:
                    self._foresee(_plane(sample))
                return stacks
            stacks += self._close(ended, 'the next sweep began')

    def _split(self) -> list[Sweep]:
        """Divide the samples, which are in the order of their stamps, into sweeps.

        What still belongs to the sweep that was closed last is in none of them.
        """
        sweeps: list[Sweep] = []
        current = self._previous
        for sample in self._samples:
            if current is None or self._rested(current, sample):
                current = start_sweep(sample, self._settings.size)
                sweeps.append(current)
            elif not current.offer(sample):
                current = current.successor(sample)
                sweeps.append(current)
        return sweeps

    def _rested(self, sweep: Sweep, sample: MatchedFrame) -> bool:
        return sample.first_ns - sweep.last_stamp > self._settings.timeout_ns

    def _first_ended(self, sweeps: list[Sweep]) -> Sweep | None:
        """Return the oldest sweep if it is complete or a newer one has overtaken it."""
        if not sweeps:
            return None
        oldest = sweeps[0]
        if any(sweep.complete for sweep in sweeps):
            return oldest
        overtaken_ns = self._samples[-1].stamp_ns - oldest.last_stamp
        return oldest if len(sweeps) > 1 and overtaken_ns > self._late_grace_ns else None

    def _close(self, sweep: Sweep, why: str) -> list[FocalStack]:
        """End a sweep; return its stack, unless too little of it has come."""
        samples = sweep.samples
        self._previous = sweep
        self._samples = [s for s in self._samples if s.stamp_ns > sweep.last_stamp]
        # What comes now from before the next sweep belongs to this one, and is late.
        self._closed_until = self._samples[0].stamp_ns - 1 if self._samples else sweep.last_stamp
        joined_midway = not self._listened_from_start and _lacks_first(samples)
        self._listened_from_start = True
        self._last_drop = None
        if len(samples) < sweep.expected:
            self._last_drop = SweepProgress(len(samples), sweep.expected)
            if joined_midway:
                self._stage_counter.reject(
                    Stage.STACKED,
                    'joined_midway',
                    f'sweep {samples[0].lens.sweep_id} had begun before the node listened',
                )
                return []
        return self._stack(samples, sweep.expected, why)

    def _stack(self, samples: list[MatchedFrame], expected: int, why: str) -> list[FocalStack]:
        """Return the stack of these samples, in a list, or nothing if they do not make one."""
        count = len(samples)
        flags = StackFlag.NONE
        fewest = MIN_PLANES
        if count < expected:
            flags |= StackFlag.PLANE_MISSING | StackFlag.PARTIAL
        if count < expected or not expected:
            fewest = max(fewest, min(self._settings.min_size, expected or MAX_PLANES))
        if count < fewest:
            of = f' of {expected}' if expected else ''
            self._stage_counter.reject(
                Stage.STACKED,
                'too_few_planes',
                f'sweep {samples[0].lens.sweep_id} ended with {count}{of} planes because {why}; '
                f'at least {fewest} are needed',
            )
            return []
        focus = [s.lens.dioptres for s in samples]
        if max(focus) - min(focus) <= FOCUS_TOLERANCE:
            self._stage_counter.reject(
                Stage.STACKED,
                'same_focus',
                f'all {count} planes are focused at {focus[0]:.3f} dioptres',
            )
            return []
        if any(s.lens.state == LensState.MOVING for s in samples):
            flags |= StackFlag.MOTION
        self._stage_counter.count(Stage.STACKED)
        sweep_extent = None
        if count < expected:
            sweep_extent = estimate_extent(samples, expected, self._whole)
        else:
            self._whole = SweepExtent.of(samples)
        planes = tuple(_plane(s) for s in samples)
        newest = samples[-1]
        return [
            FocalStack(
                planes,
                newest.frame.frame_id,
                newest.lens.sweep_id,
                flags,
                sweep_extent=sweep_extent,
            )
        ]

    def _slide(self, sample: MatchedFrame) -> list[FocalStack]:
        self._idle_since = None
        samples = self._sliding.add(sample, self._settings.size, self._settings.timeout_ns)
        if not samples:
            return []
        return self._stack(samples, self._sliding.expected, 'planes were lost')

    def _change_format(self, frame: Frame) -> None:
        assert self._format is not None
        (shape, encoding, frame_id), (new_shape, new_encoding, new_frame_id) = (
            self._format,
            frame.format,
        )
        text = (
            f'images changed from {_size(shape)} {encoding} in {frame_id!r} to '
            f'{_size(new_shape)} {new_encoding} in {new_frame_id!r}'
        )
        self._pairing.drop_frames(frame.stamp_ns, 'format_changed', text)
        self.drop_sweep('format_changed', text)

    def _set_back(self, limit: int) -> None:
        """Forget what lies after ``limit``, because the stamps have jumped back."""
        if self._closed_until > limit or any(s.stamp_ns > limit for s in self._samples):
            self.drop_sweep('clock_jump', 'the stamps of the images have jumped back')
            self._closed_until = 0
            self._late_grace_ns = 0

    def _forget_sweep(self) -> None:
        self._samples.clear()
        self._previous = None
        self._open = None
        self._idle_since = None


def _lacks_first(samples: list[MatchedFrame]) -> bool:
    counted = samples[0].lens.plane_count > 0
    return counted and all(s.lens.plane_index > 0 for s in samples)


def _plane(sample: MatchedFrame) -> Plane:
    return Plane(
        sample.frame.image,
        sample.lens.dioptres,
        sample.stamp_ns,
        sample.camera,
        sample.lens.plane_index,
        sample.calibration,
    )


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[1]}x{shape[0]}'
