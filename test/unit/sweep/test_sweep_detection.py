# SPDX-License-Identifier: Apache-2.0
"""Boundaries of counted and turning sweeps."""

import pytest

from dualfocus_ros.camera.lens_state import LensState, PlaneTarget
from dualfocus_ros.focal_stack import StackFlag
from sweep_messages import (
    MS,
    SweepFixture,
    counted_sweep,
    frames_of,
    stamp,
)

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


class TestCountedSweeps:
    def test_separates_consecutive_sweeps(self):
        fixture = SweepFixture()
        stacks = fixture.feed(counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4))
        assert [(s.sweep_id, frames_of(s)) for s in stacks] == [
            (1, [0, 1, 2, 3]),
            (2, [4, 5, 6, 7]),
        ]

    @pytest.mark.fault(5)
    def test_keeps_the_newest_settled_frame_of_a_plane(self):
        fixture = SweepFixture(accept_moving=True)
        moving = LensState.MOVING
        fixture.add_frame(0, 0.4, sweep=1, index=0, count=2, state=moving)
        fixture.add_frame(1, 0.5, sweep=1, index=0, count=2)
        fixture.add_frame(2, 0.5, sweep=1, index=0, count=2)
        fixture.add_frame(3, 0.6, sweep=1, index=0, count=2, state=moving)
        (stack,) = fixture.add_frame(4, 1.0, sweep=1, index=1, count=2)
        assert frames_of(stack) == [2, 4]
        assert stack.flags == StackFlag.NONE

    def test_flags_stacks_with_a_moving_frame(self):
        fixture = SweepFixture(accept_moving=True)
        fixture.add_frame(0, 0.5, sweep=1, index=0, count=2)
        (stack,) = fixture.add_frame(1, 0.9, sweep=1, index=1, count=2, state=LensState.MOVING)
        assert stack.flags == StackFlag.MOTION

    def test_further_frames_of_the_last_plane_start_no_sweep(self):
        fixture = SweepFixture()
        fixture.feed(counted_sweep(1, 3, 0))
        for n in range(3, 20):
            assert fixture.add_frame(n, 1.0, sweep=1, index=2, count=3) == []
        assert not fixture.assembler.in_progress
        assert len(fixture.feed(counted_sweep(2, 3, 20))) == 1
        assert fixture.reasons == set()

    def test_separates_sweeps_of_a_constant_number(self):
        fixture = SweepFixture()
        stacks = fixture.feed(
            counted_sweep(0, 3, 0) + counted_sweep(0, 3, 3) + counted_sweep(0, 3, 6)
        )
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

    @pytest.mark.fault(1)
    @pytest.mark.parametrize('held', [0, 1, 2, 3])
    @pytest.mark.parametrize('state', [LensState.SETTLED, LensState.MOVING])
    def test_restarted_sweep_of_the_same_number(self, held, state):
        fixture = SweepFixture(timeout_ns=1000 * MS, accept_moving=True)
        messages = counted_sweep(1, 5, first=0)[: 2 * (held + 1)]
        stacks = fixture.feed(messages)
        # The camera continues for longer than the timeout.
        for n in range(held + 1, held + 31):
            stacks += fixture.add_frame(n, 1.0, sweep=1, index=held, count=5, state=state)
        stacks += fixture.feed(counted_sweep(1, 5, first=40))
        flags = [stack.flags for stack in stacks]
        *before, whole = map(frames_of, stacks)
        assert whole == [40, 41, 42, 43, 44]
        # No stack has planes of both sweeps.
        kept = held if state == LensState.MOVING else held + 30
        assert before == ([] if held < 2 else [[*range(held), kept]])
        assert flags == [PARTIAL] * len(before) + [StackFlag.NONE]

    def test_lost_plane_with_a_constant_sweep_number(self):
        fixture = SweepFixture(min_size=2)
        messages = counted_sweep(0, 4, 0)[:-2] + counted_sweep(0, 4, 4)
        stacks = fixture.feed(messages)
        assert [(frames_of(s), s.flags) for s in stacks] == [
            ([0, 1, 2], PARTIAL),
            ([4, 5, 6, 7], StackFlag.NONE),
        ]

    def test_next_sweep_ends_an_incomplete_one(self):
        fixture = SweepFixture(min_size=3)
        first = counted_sweep(1, 4, 0)
        del first[2:4]
        assert fixture.feed(first) == []
        second = counted_sweep(2, 4, 4)
        (stack,) = fixture.feed(second[:2])
        assert stack.flags == PARTIAL
        assert frames_of(stack) == [0, 2, 3]
        (stack,) = fixture.feed(second[2:])
        assert stack.flags == StackFlag.NONE

    def test_drops_a_sweep_joined_midway(self):
        fixture = SweepFixture(min_size=2)
        for _ in range(2):
            fixture.feed(counted_sweep(1, 6, 0)[4:])
            assert [frames_of(s) for s in fixture.feed(counted_sweep(2, 3, 6))] == [[6, 7, 8]]
            fixture.assembler.reset()
        assert fixture.rejected('joined_midway') == 2
        assert len(fixture.feed(counted_sweep(3, 3, 9)[2:] + counted_sweep(3, 3, 9)[:2])) == 1

    def test_rejection_of_too_few_planes_has_the_numbers(self):
        fixture = SweepFixture(min_size=4)
        fixture.feed(counted_sweep(7, 8, 0)[:6])
        assert len(fixture.feed(counted_sweep(8, 4, 10))) == 1
        assert fixture.rejected('too_few_planes') == 1
        text = fixture.stage_counter.snapshot().last.text
        assert 'sweep 7' in text and '3 of 8' in text and '4 are needed' in text

    def test_size_overrides_the_plane_count(self):
        fixture = SweepFixture(size=3)
        stacks = fixture.feed(counted_sweep(1, 5, 0) + counted_sweep(2, 5, 5))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [5, 6, 7]]
        assert fixture.reasons == set()

    @pytest.mark.fault(4)
    @pytest.mark.parametrize('state', [LensState.SETTLED, LensState.UNKNOWN])
    def test_rejects_a_lens_away_from_its_command(self, state):
        fixture = SweepFixture(min_size=2, command_tolerance=0.25)
        for index, focus in enumerate((0.5, 1.0, 1.5, 2.0)):
            fixture.assembler.add_command(PlaneTarget(focus, 1, index, 4, stamp(0)))
        # The command of the last plane is unknown, and images outside of sweeps have none.
        fixture.assembler.add_command(PlaneTarget(float('nan'), 1, 3, 4, stamp(0)))
        for index, reported in enumerate((0.74, 1.26, 1.5)):
            fixture.add_frame(index, reported, sweep=1, index=index, count=4, state=state)
        fixture.add_frame(3, 5.0, sweep=1, index=3, count=4, state=state)
        (stack,) = fixture.add_frame(4, 5.0, state=state)
        assert (frames_of(stack), stack.flags) == ([0, 2, 3], PARTIAL)
        assert fixture.reasons == {'off_command'} and fixture.rejected('off_command') == 1
        text = fixture.stage_counter.snapshot().last.text
        assert 'sent to 1.000 dioptres and reports 1.260' in text
        assert 'stack.command_tolerance' in text

    @pytest.mark.fault(4)
    def test_tolerance_of_zero_ignores_commands(self):
        fixture = SweepFixture(command_tolerance=0.0)
        fixture.assembler.add_command(PlaneTarget(9.0, 1, 0, 2, stamp(0)))
        fixture.add_frame(0, 0.5, sweep=1, index=0, count=2)
        assert len(fixture.add_frame(1, 1.0, sweep=1, index=1, count=2)) == 1

    def test_number_of_commands_is_bounded(self):
        fixture = SweepFixture()
        for n in range(1000):
            fixture.assembler.add_command(PlaneTarget(1.0, n, 0, 2, stamp(n)))
        assert fixture.assembler.command_count == 4 * 32

    @pytest.mark.fault(5)
    @pytest.mark.parametrize(
        'focus',
        [
            [1.5, 0.5, 1.0],
            [0.5, 1.5, 1.0],
            [1.0, 0.5, 1.0],
            [2.0, 1.0, 0.5],
        ],
    )
    def test_counted_sweep_may_have_any_order(self, focus):
        fixture = SweepFixture()
        (stack,) = fixture.feed(counted_sweep(1, 3, 0, dioptres=focus))
        assert stack.flags == StackFlag.NONE
        assert stack.focus_dioptres.tolist() == focus

    @pytest.mark.fault(5)
    def test_rejects_planes_of_equal_focus(self):
        fixture = SweepFixture()
        assert fixture.feed(counted_sweep(1, 3, 0, dioptres=[1.0, 1.001, 1.002])) == []
        assert fixture.reasons == {'same_focus'}

    def test_rejects_invalid_plane_counts_and_indices(self):
        fixture = SweepFixture()
        assert fixture.add_frame(0, 1.0, sweep=1, index=0, count=33) == []
        assert fixture.add_frame(1, 1.0, sweep=1, index=9, count=8) == []
        assert fixture.reasons == {'too_many_planes', 'bad_plane_index'}

    def test_waits_for_late_planes_after_the_first_one(self):
        fixture = SweepFixture(window=0.5, min_size=2)

        def feed_last_plane_late(k):
            this, following = counted_sweep(k, 3, 3 * k), counted_sweep(k + 1, 3, 3 * k + 3)
            return fixture.feed(this[:4] + following[:2] + this[4:])

        (stack,) = feed_last_plane_late(0)
        assert (frames_of(stack), stack.flags) == ([0, 1], PARTIAL)
        assert fixture.rejected('late') == 1
        (stack,) = feed_last_plane_late(2)
        assert (frames_of(stack), stack.flags) == ([6, 7, 8], StackFlag.NONE)
        assert fixture.rejected('late') == 1


class TestTurningSweeps:
    def shoot_all(self, fixture, focus, first=0):
        return [
            s for n, dioptres in enumerate(focus) for s in fixture.add_frame(first + n, dioptres)
        ]

    def test_triangle_sweeps_share_the_turning_plane(self):
        triangle = [0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5]
        stacks = self.shoot_all(SweepFixture(), triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]

    def test_sawtooth_returns_to_the_start(self):
        stacks = self.shoot_all(SweepFixture(), [0.5, 1.0, 1.5, 2.0] * 3 + [0.5])
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    def test_known_sweep_is_complete_at_its_last_plane(self):
        fixture = SweepFixture()
        self.shoot_all(fixture, [0.5, 1.0, 1.5] * 2 + [0.5, 1.0])
        (stack,) = fixture.add_frame(8, 1.5)
        assert frames_of(stack) == [6, 7, 8]

    @pytest.mark.fault(5)
    def test_repeated_positions_are_one_plane(self):
        focus = [0.5, 0.5, 0.501, 1.0, 1.0, 1.5, 1.5, 0.5, 0.5, 1.0, 1.5]
        stacks = self.shoot_all(SweepFixture(), focus)
        assert [frames_of(s) for s in stacks] == [[2, 4, 6], [8, 9, 10]]

    def test_sweep_of_two_positions(self):
        stacks = self.shoot_all(SweepFixture(min_size=3), [0.5, 1.5] * 3)
        assert [frames_of(s) for s in stacks] == [[2, 3], [4, 5]]

    def test_first_sweep_may_start_midway(self):
        fixture = SweepFixture(min_size=2)
        triangle = [1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5]
        stacks = self.shoot_all(fixture, triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1], [2, 3, 4], [4, 5, 6, 7]]

    @pytest.mark.parametrize(
        'focus',
        [
            [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
            [0.5, 1.0, 1.5, 2.0, 0.5, 1.0, 1.5, 2.0],
        ],
    )
    def test_size_divides_the_sequence(self, focus):
        stacks = self.shoot_all(SweepFixture(size=4), focus)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_size_with_a_triangle(self):
        triangle = [0.5, 1.0, 1.5, 1.0, 0.5, 1.0, 1.5]
        stacks = self.shoot_all(SweepFixture(size=3), triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]

    @pytest.mark.fault(5)
    def test_resting_lens_keeps_one_frame(self):
        fixture = SweepFixture(min_size=2)
        for n in range(200):
            assert fixture.add_frame(n, 1.0) == []
        assert fixture.assembler.progress.planes == 1

    def test_endless_ramp_is_divided_at_the_maximum(self):
        stacks = self.shoot_all(SweepFixture(), [0.02 * n for n in range(80)])
        assert [len(s.planes) for s in stacks] == [32, 32]
