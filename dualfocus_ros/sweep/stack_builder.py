# SPDX-License-Identifier: Apache-2.0
"""Build focal stacks from the frames of a sweep, with the focus range of a truncated one.

A missing first or last plane truncates the range: a surface that is sharpest in the outermost
remaining plane may lie anywhere beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import (
    FOCUS_TOLERANCE,
    MAX_PLANES,
    MIN_PLANES,
    FocalStack,
    StackFlag,
)
from dualfocus_ros.sweep.frames import MatchedFrame
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter


class StackBuilder:
    """Builder of flagged focal stacks; stores the focus of the last complete sweep.

    :param stage_counter: counts stacks and rejections.
    """

    def __init__(self, stage_counter: StageCounter) -> None:
        self._stage_counter = stage_counter
        self._reject = partial(stage_counter.reject, Stage.STACKED)
        self._complete_focus: list[float] = []

    def clear(self) -> None:
        """Forget the last complete sweep."""
        self._complete_focus = []

    def build(
        self, frames: Sequence[MatchedFrame], expected: int, min_size: int, cause: str
    ) -> list[FocalStack]:
        """Return the stack of a sweep in a list, which is empty if there are too few planes.

        :param frames: frames by stamp.
        :param expected: planes of the complete sweep; 0: unknown.
        :param min_size: fewest planes of an incomplete sweep.
        :param cause: why the sweep ended, for the text of a rejection.
        """
        count, newest = len(frames), frames[-1]
        flags, fewest = StackFlag.NONE, MIN_PLANES
        if count < expected:
            flags |= StackFlag.PLANE_MISSING | StackFlag.PARTIAL
        if count < expected or not expected:
            fewest = max(fewest, min(min_size, expected or MAX_PLANES))
        if count < fewest:
            of = f' of {expected}' if expected else ''
            self._reject(
                'too_few_planes',
                f'sweep {frames[0].lens.sweep_id} ended with {count}{of} planes because {cause}; '
                f'at least {fewest} are needed',
            )
            return []
        focus = [frame.lens.dioptres for frame in frames]
        if max(focus) - min(focus) <= FOCUS_TOLERANCE:
            self._reject(
                'same_focus', f'all {count} planes are focused at {focus[0]:.3f} dioptres'
            )
            return []
        if any(frame.lens.state == LensState.MOVING for frame in frames):
            flags |= StackFlag.MOTION
        self._stage_counter.count(Stage.STACKED)
        extent = None
        if count < expected:
            extent = _estimate_extent(frames, expected, self._complete_focus)
        else:
            self._complete_focus = focus
        planes, frame_id = tuple(frame.plane for frame in frames), newest.frame.frame_id
        return [FocalStack(planes, frame_id, newest.lens.sweep_id, flags, sweep_extent=extent)]


def _estimate_extent(
    frames: Sequence[MatchedFrame], expected: int, previous: Sequence[float]
) -> tuple[float, float] | None:
    """Return the far and the near end of an incomplete sweep, in dioptres; None: unknown.

    Extrapolated over the plane indices where the focus is monotonic in them. Otherwise the range
    of the previous complete sweep, if it had as many planes and covers the remaining ones.
    """
    if frames[0].lens.plane_count == expected:
        by_index = sorted((frame.lens.plane_index, frame.lens.dioptres) for frame in frames)
        index, ordered = np.array(by_index).T
        steps = np.diff(ordered)
        if (steps > 0.0).all() or (steps < 0.0).all():
            slope = (ordered[-1] - ordered[0]) / (index[-1] - index[0])
            first = ordered[0] - slope * index[0]
            last = ordered[-1] + slope * (expected - 1 - index[-1])
            return float(min(first, last)), float(max(first, last))
    if len(previous) != expected:
        return None
    focus = [frame.lens.dioptres for frame in frames]
    far, near = min(previous), max(previous)
    covers = far <= min(focus) + FOCUS_TOLERANCE and near >= max(focus) - FOCUS_TOLERANCE
    return (far, near) if covers else None
