# SPDX-License-Identifier: Apache-2.0
"""Sweeps that lost an end: how far they were to go, and which ends are missing."""

import numpy as np
import pytest

from dualfocus_ros.focal_stack import FocalStack, Plane, StackFlag
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer, PlaneSynchronizerSettings
from dualfocus_ros.sweep.stage_counter import StageCounter
from sweep_messages import MS, Rig, counted_sweep, frame, stamp

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL
# Which end of the sweep is missing: the far one, the near one.
NEITHER, FAR, NEAR = (False, False), (True, False), (False, True)


def without(messages, *frames):
    """Return the messages of a sweep without the images of these frames."""
    return [m for n, m in enumerate(messages) if n // 2 not in frames]


def partial(sweep, lost, focus=None, rig=None):
    """Return the stack of a counted sweep of six planes that lost some."""
    rig = rig or Rig(min_size=2)
    if not rig.assembler._listened_from_start:
        rig.feed(counted_sweep(0, 6, 0, focus))
    rig.feed(without(counted_sweep(sweep, 6, 6 * sweep, focus), *lost))
    (stack,) = rig.feed(counted_sweep(sweep + 1, 6, 6 * sweep + 6, focus)[:2])
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
    def test_the_end_that_was_lost_is_known(self, lost, ends):
        stack = partial(1, lost)
        assert stack.sweep_extent == pytest.approx((0.5, 1.75))
        assert stack.truncated_ends == ends

    def test_a_sweep_from_near_to_far(self):
        focus = [2.0 - 0.25 * n for n in range(6)]
        assert partial(1, [0], focus).truncated_ends == NEAR
        assert partial(1, [5], focus).truncated_ends == FAR

    def test_planes_in_any_order_are_compared_with_the_sweep_before(self):
        focus = [1.0, 2.0, 0.5, 1.5, 0.25, 0.75]
        assert partial(1, [1], focus).truncated_ends == NEAR
        assert partial(1, [4], focus).truncated_ends == FAR
        assert partial(1, [3], focus).truncated_ends == NEITHER

    def test_of_the_first_sweep_of_all_only_the_indices_are_known(self):
        rig = Rig(min_size=2)
        stack = partial(1, [5], rig=rig)
        rig.assembler.reset()
        rig.feed(without(counted_sweep(3, 6, 100), 5))
        (again,) = rig.feed(counted_sweep(4, 6, 106)[:2])
        assert again.truncated_ends == stack.truncated_ends == NEAR

    def test_a_whole_sweep_measures_everything(self):
        (stack,) = Rig().feed(counted_sweep(1, 6, 0))
        assert stack.sweep_extent is None
        assert stack.truncated_ends == NEITHER

    def test_a_sweep_over_another_range_is_not_compared(self):
        rig = Rig(min_size=2)
        rig.feed(counted_sweep(0, 6, 0, [1.0, 2.0, 0.5, 1.5, 0.25, 0.75]))
        stack = partial(1, [1], [3.0, 9.0, 2.5, 3.5, 5.0, 4.0], rig)
        assert stack.sweep_extent is None

    def test_a_camera_that_stops_before_the_near_end(self):
        rig = Rig(min_size=3)
        rig.feed(counted_sweep(1, 8, 0)[:10])
        rig.assembler.tick(0)
        (stack,) = rig.assembler.tick(3 * 10**9)
        assert stack.sweep_extent == pytest.approx((0.5, 2.25))
        assert stack.truncated_ends == NEAR


class TestOtherSources:
    def test_a_triangle_without_numbers_is_compared_with_the_sweep_before(self):
        rig = Rig(min_size=2)
        focus = [0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 1.5, 1.0, 0.5]
        stacks = [s for n, q in enumerate(focus) for s in rig.shoot(n, q)]
        (lost,) = [s for s in stacks if s.flags]
        np.testing.assert_allclose(lost.focus_dioptres, [0.5, 1.0, 1.5])
        assert lost.sweep_extent == (0.5, 2.0)
        assert lost.truncated_ends == NEAR

    def test_sliding(self):
        rig = Rig(sliding=True, min_size=2)
        rig.feed(counted_sweep(1, 4, 0))
        for k in range(1, 6):
            stacks = rig.feed(counted_sweep(k, 4, 4 * k)[:-2])
        assert stacks[-1].flags == PARTIAL
        assert stacks[-1].truncated_ends == NEAR

    def test_several_cameras_of_which_one_fails(self):
        sync = PlaneSynchronizer(
            PlaneSynchronizerSettings((0.2, 0.8, 1.6), min_size=2, timeout_ns=150 * MS),
            StageCounter(),
        )
        for plane in (1, 2):
            sync.add(plane, frame(0), None)
        (stack,) = sync.add(1, frame(5), None)
        assert stack.sweep_extent == (0.2, 1.6)
        assert stack.truncated_ends == FAR


def test_noise_of_the_position_is_no_lost_plane():
    planes = tuple(
        Plane(np.zeros((4, 4), np.uint8), q, stamp(n)) for n, q in enumerate((0.504, 1.0, 1.998))
    )
    assert FocalStack(planes, sweep_extent=(0.5, 2.0)).truncated_ends == NEITHER
    assert FocalStack(planes, sweep_extent=(0.4, 2.5)).truncated_ends == (True, True)
