# SPDX-License-Identifier: Apache-2.0
"""Stacks of the sliding window."""

from dualfocus_ros.focal_stack import StackFlag
from sweep_messages import (
    SweepFixture,
    counted_sweep,
    frames_of,
)

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


class TestSliding:
    def test_one_stack_per_frame_once_all_positions_are_known(self):
        fixture = SweepFixture(sliding=True)
        stacks = fixture.feed(counted_sweep(1, 3, 0) + counted_sweep(2, 3, 3))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]

    def test_uncounted_triangle(self):
        fixture = SweepFixture(sliding=True)
        focus = [0.5, 1.0, 1.5, 1.0, 0.5, 1.0]
        stacks = [s for n, d in enumerate(focus) for s in fixture.add_frame(n, d)]
        assert [frames_of(s) for s in stacks] == [[0, 2, 3], [2, 3, 4], [2, 4, 5]]

    def test_drops_a_lost_position_and_flags_stacks(self):
        fixture = SweepFixture(sliding=True, min_size=2)
        fixture.feed(counted_sweep(1, 4, 0))
        stacks = []
        for k in range(1, 6):
            stacks += fixture.feed(counted_sweep(k, 4, 4 * k)[2:])
        assert stacks[0].flags == StackFlag.NONE
        assert stacks[-1].flags == PARTIAL
        assert len(stacks[-1].planes) == 3

    def test_pause_starts_a_new_window(self):
        fixture = SweepFixture(sliding=True)
        fixture.feed(counted_sweep(1, 3, 0))
        stacks = fixture.feed(counted_sweep(2, 3, 1000))
        assert [frames_of(s) for s in stacks] == [[1000, 1001, 1002]]

    def test_size_keeps_the_newest_positions(self):
        fixture = SweepFixture(sliding=True, size=2)
        stacks = [s for n in range(4) for s in fixture.add_frame(n, 0.5 + 0.5 * n)]
        assert [frames_of(s) for s in stacks] == [[0, 1], [1, 2], [2, 3]]
