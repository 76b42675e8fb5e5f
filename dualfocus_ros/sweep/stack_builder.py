# SPDX-License-Identifier: Apache-2.0
"""Build focal stacks from the frames of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import (
    FOCUS_TOLERANCE,
    MAX_PLANES,
    MIN_PLANES,
    FocalStack,
    Plane,
    StackFlag,
)
from dualfocus_ros.sweep.frames import MatchedFrame
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.sweep.sweep_extent import SweepExtent, estimate_extent


def plane_from_frame(frame: MatchedFrame) -> Plane:
    """Return the plane of a frame."""
    return Plane(
        frame.frame.image,
        frame.lens.dioptres,
        frame.stamp_ns,
        frame.camera,
        frame.lens.plane_index,
        frame.calibration,
    )


class StackBuilder:
    """Builder of flagged focal stacks; stores the extent of the last complete sweep.

    :param stage_counter: counts stacks and rejections.
    """

    def __init__(self, stage_counter: StageCounter) -> None:
        self._stage_counter = stage_counter
        self._complete_extent: SweepExtent | None = None

    def clear(self) -> None:
        """Forget the last complete sweep."""
        self._complete_extent = None

    def build(
        self, frames: Sequence[MatchedFrame], expected: int, min_size: int, cause: str
    ) -> FocalStack | None:
        """Return the stack of a sweep, or None if there are too few planes.

        :param frames: frames by stamp.
        :param expected: planes of the complete sweep; 0: unknown.
        :param min_size: fewest planes of an incomplete sweep.
        :param cause: why the sweep ended, for the text of a rejection.
        """
        count = len(frames)
        flags = StackFlag.NONE
        fewest = MIN_PLANES
        if count < expected:
            flags |= StackFlag.PLANE_MISSING | StackFlag.PARTIAL
        if count < expected or not expected:
            fewest = max(fewest, min(min_size, expected or MAX_PLANES))
        if count < fewest:
            of = f' of {expected}' if expected else ''
            self._stage_counter.reject(
                Stage.STACKED,
                'too_few_planes',
                f'sweep {frames[0].lens.sweep_id} ended with {count}{of} planes because {cause}; '
                f'at least {fewest} are needed',
            )
            return None
        focus = [frame.lens.dioptres for frame in frames]
        if max(focus) - min(focus) <= FOCUS_TOLERANCE:
            self._stage_counter.reject(
                Stage.STACKED,
                'same_focus',
                f'all {count} planes are focused at {focus[0]:.3f} dioptres',
            )
            return None
        if any(frame.lens.state == LensState.MOVING for frame in frames):
            flags |= StackFlag.MOTION
        self._stage_counter.count(Stage.STACKED)
        extent = None
        if count < expected:
            extent = estimate_extent(frames, expected, self._complete_extent)
        else:
            self._complete_extent = SweepExtent.of(frames)
        newest = frames[-1]
        return FocalStack(
            tuple(plane_from_frame(frame) for frame in frames),
            newest.frame.frame_id,
            newest.lens.sweep_id,
            flags,
            sweep_extent=extent,
        )
