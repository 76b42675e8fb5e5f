# SPDX-License-Identifier: Apache-2.0
"""Focus range of incomplete sweeps, and their truncated ends."""

import numpy as np
import pytest

from dualfocus_ros.focal_stack import FocalStack, Plane, StackFlag
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer, PlaneSynchronizerSettings
from dualfocus_ros.sweep.stage_counter import StageCounter
from sweep_messages import MS, SweepFixture, counted_sweep, frame, stamp

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL
# Truncated ends: far, near.
NEITHER, FAR, NEAR = (False, False), (True, False), (False, True)


def without(messages, *frames):
    """Return messages without those of some frames."""
    return [m for n, m in enumerate(messages) if n // 2 not in frames]


def partial(sweep, lost, focus=None, fixture=None):
    """Return the stack of a counted sweep of six planes that lost some.

    :param fixture: one that has seen a complete sweep; by default a new one sees one first.
    """
    if fixture is None:
        fixture = SweepFixture(min_size=2)
        fixture.feed(counted_sweep(0, 6, 0, focus))
    fixture.feed(without(counted_sweep(sweep, 6, 6 * sweep, focus), *lost))
    (stack,) = fixture.feed(counted_sweep(sweep + 1, 6, 6 * sweep + 6, focus)[:2])
    assert stack.flags == PARTIAL
    return stack


class TestCountedSweeps:
    @pytest.mark.parametrize(
        ('lost', 'ends'),
        [
            ([2], NEITHER),
            ([2, 3], NEITHER),
            ([5], NEAR),
            ([4, 5], NEAR),
            ([3, 5], NEAR),
            ([0], FAR),
            ([0, 1], FAR),
            ([0, 5], (True, True)),
        ],
    )
    def test_truncated_ends_of_a_counted_sweep(self, lost, ends):
        stack = partial(1, lost)
        assert stack.sweep_extent == pytest.approx((0.5, 1.75))
        assert stack.truncated_ends == ends

    def test_sweep_from_near_to_far(self):
        focus = [2.0 - 0.25 * n for n in range(6)]
        assert partial(1, [0], focus).truncated_ends == NEAR
        assert partial(1, [5], focus).truncated_ends == FAR

    def test_unordered_planes_use_the_previous_sweep(self):
        focus = [1.0, 2.0, 0.5, 1.5, 0.25, 0.75]
        assert partial(1, [1], focus).truncated_ends == NEAR
        assert partial(1, [4], focus).truncated_ends == FAR
        assert partial(1, [3], focus).truncated_ends == NEITHER

    def test_first_sweep_uses_the_plane_indices(self):
        fixture = SweepFixture(min_size=2)
        stack = partial(1, [5], fixture=fixture)
        fixture.assembler.reset()
        fixture.feed(without(counted_sweep(3, 6, 100), 5))
        (again,) = fixture.feed(counted_sweep(4, 6, 106)[:2])
        assert again.truncated_ends == stack.truncated_ends == NEAR

    def test_complete_sweep_has_no_extent(self):
        (stack,) = SweepFixture().feed(counted_sweep(1, 6, 0))
        assert stack.sweep_extent is None
        assert stack.truncated_ends == NEITHER

    def test_previous_sweep_of_another_range_is_ignored(self):
        fixture = SweepFixture(min_size=2)
        fixture.feed(counted_sweep(0, 6, 0, [1.0, 2.0, 0.5, 1.5, 0.25, 0.75]))
        stack = partial(1, [1], [3.0, 9.0, 2.5, 3.5, 5.0, 4.0], fixture)
        assert stack.sweep_extent is None

    def test_camera_that_stops_before_the_near_end(self):
        fixture = SweepFixture(min_size=3)
        fixture.feed(counted_sweep(1, 8, 0)[:10])
        fixture.assembler.tick(0)
        (stack,) = fixture.assembler.tick(3 * 10**9)
        assert stack.sweep_extent == pytest.approx((0.5, 2.25))
        assert stack.truncated_ends == NEAR


class TestOtherSources:
    def test_uncounted_triangle_uses_the_previous_sweep(self):
        fixture = SweepFixture(min_size=2)
        focus = [0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 1.5, 1.0, 0.5]
        stacks = [s for n, q in enumerate(focus) for s in fixture.add_frame(n, q)]
        (lost,) = [s for s in stacks if s.flags]
        np.testing.assert_allclose(lost.focus_dioptres, [0.5, 1.0, 1.5])
        assert lost.sweep_extent == (0.5, 2.0)
        assert lost.truncated_ends == NEAR

    def test_sliding_window(self):
        fixture = SweepFixture(sliding=True, min_size=2)
        fixture.feed(counted_sweep(1, 4, 0))
        for k in range(1, 6):
            stacks = fixture.feed(counted_sweep(k, 4, 4 * k)[:-2])
        assert stacks[-1].flags == PARTIAL
        assert stacks[-1].truncated_ends == NEAR

    def test_several_cameras_with_one_failing(self):
        sync = PlaneSynchronizer(
            PlaneSynchronizerSettings((0.2, 0.8, 1.6), min_size=2, timeout_ns=150 * MS),
            StageCounter(),
        )
        for plane in (1, 2):
            sync.add(plane, frame(0), None)
        (stack,) = sync.add(1, frame(5), None)
        assert stack.sweep_extent == (0.2, 1.6)
        assert stack.truncated_ends == FAR


def test_position_noise_is_no_truncated_end():
    planes = tuple(
        Plane(np.zeros((4, 4), np.uint8), q, stamp(n)) for n, q in enumerate((0.504, 1.0, 1.998))
    )
    assert FocalStack(planes, sweep_extent=(0.5, 2.0)).truncated_ends == NEITHER
    assert FocalStack(planes, sweep_extent=(0.4, 2.5)).truncated_ends == (True, True)
