# SPDX-License-Identifier: Apache-2.0
"""How far a sweep that lost planes would have gone.

Where the first or the last plane is missing, whatever looks sharpest in the outermost plane that
there is may as well lie anywhere beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE
from dualfocus_ros.sweep.frames import MatchedFrame


@dataclass(frozen=True)
class SweepExtent:
    """A sweep of which every plane came: how many, and the focus of its ends in dioptres."""

    count: int
    far: float
    near: float

    @classmethod
    def of(cls, samples: Sequence[MatchedFrame]) -> SweepExtent:
        """Return the extent of the sweep of these samples."""
        focus = [s.lens.dioptres for s in samples]
        return cls(len(focus), min(focus), max(focus))


def estimate_extent(
    samples: Sequence[MatchedFrame], expected: int, whole: SweepExtent | None
) -> tuple[float, float] | None:
    """Return the far and the near end, in dioptres, of a sweep that lost planes.

    From the indices of the planes where they are counted and the focus runs one way with them;
    the missing ends are extrapolated. Otherwise from the sweep before, if it had as many planes
    and went over the ones that there are.

    :param samples: what came of it.
    :param expected: how many planes make a stack.
    :param whole: the last sweep that lost none.
    :returns: None where it is not known.
    """
    focus = [s.lens.dioptres for s in samples]
    if samples[0].lens.plane_count == expected:
        by_index = sorted((s.lens.plane_index, s.lens.dioptres) for s in samples)
        index, ordered = np.array(by_index).T
        steps = np.diff(ordered)
        if (steps > 0.0).all() or (steps < 0.0).all():
            slope = (ordered[-1] - ordered[0]) / (index[-1] - index[0])
            first = ordered[0] - slope * index[0]
            last = ordered[-1] + slope * (expected - 1 - index[-1])
            return float(min(first, last)), float(max(first, last))
    if (
        whole is not None
        and whole.count == expected
        and whole.far <= min(focus) + FOCUS_TOLERANCE
        and whole.near >= max(focus) - FOCUS_TOLERANCE
    ):
        return whole.far, whole.near
    return None
