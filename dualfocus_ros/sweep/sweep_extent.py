# SPDX-License-Identifier: Apache-2.0
"""Focus range of a sweep that lost planes.

A missing first or last plane truncates the range: a surface that is sharpest in the outermost
remaining plane may lie anywhere beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE
from dualfocus_ros.sweep.frames import MatchedFrame


@dataclass(frozen=True)
class SweepExtent:
    """Number of planes of a complete sweep, and its ends in dioptres."""

    count: int
    far: float
    near: float

    @classmethod
    def of(cls, frames: Sequence[MatchedFrame]) -> SweepExtent:
        """Return the extent of the sweep of these frames."""
        focus = [frame.lens.dioptres for frame in frames]
        return cls(len(focus), min(focus), max(focus))


def estimate_extent(
    frames: Sequence[MatchedFrame], expected: int, previous: SweepExtent | None
) -> tuple[float, float] | None:
    """Return the far and the near end of an incomplete sweep, in dioptres; None: unknown.

    Extrapolated over the plane indices where the focus is monotonic in them. Otherwise the extent
    of the previous complete sweep, if it had as many planes and covers the remaining ones.

    :param frames: frames of the remaining planes.
    :param expected: planes of the complete sweep.
    :param previous: the last complete sweep.
    """
    focus = [frame.lens.dioptres for frame in frames]
    if frames[0].lens.plane_count == expected:
        by_index = sorted((frame.lens.plane_index, frame.lens.dioptres) for frame in frames)
        index, ordered = np.array(by_index).T
        steps = np.diff(ordered)
        if (steps > 0.0).all() or (steps < 0.0).all():
            slope = (ordered[-1] - ordered[0]) / (index[-1] - index[0])
            first = ordered[0] - slope * index[0]
            last = ordered[-1] + slope * (expected - 1 - index[-1])
            return float(min(first, last)), float(max(first, last))
    if (
        previous is not None
        and previous.count == expected
        and previous.far <= min(focus) + FOCUS_TOLERANCE
        and previous.near >= max(focus) - FOCUS_TOLERANCE
    ):
        return previous.far, previous.near
    return None
