# SPDX-License-Identifier: Apache-2.0
"""Sweeps become stacks: pairing, grouping, partial sweeps, clock jumps, bounded memory."""

from dataclasses import replace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import LensState, PlaneTarget
from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.sweep.assembler import AssemblerSettings, SweepAssembler
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from sweep_messages import (
    MS,
    PERIOD,
    START,
    Rig,
    calibration,
    counted_sweep,
    frame,
    frames_of,
    report,
    stamp,
)

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


class TestPairing:
    def test_a_stack_comes_with_the_message_that_completes_it(self):
        rig = Rig()
        messages = counted_sweep(1, 5, first=0)
        assert rig.feed(messages[:-1]) == []
        (stack,) = rig.give(messages[-1])
        assert frames_of(stack) == [0, 1, 2, 3, 4]
        assert stack.sweep_id == 1
        assert stack.frame_id == 'camera'
        assert stack.flags == StackFlag.NONE
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 0.75, 1.0, 1.25, 1.5])

    @pytest.mark.fault(3)
    @pytest.mark.parametrize('late', ['frames', 'reports'])
    def test_either_side_may_be_late_up_to_the_window(self, late):
        rig = Rig(window=0.5)
        messages = counted_sweep(1, 5, first=0)
        frames, reports = messages[::2], messages[1::2]
        stacks = rig.feed(reports + frames if late == 'frames' else frames + reports)
        assert [frames_of(stack) for stack in stacks] == [[0, 1, 2, 3, 4]]

    @pytest.mark.fault(2)
    def test_a_frame_is_never_paired_with_a_neighbours_focus(self):
        rig = Rig(window=0.2, min_size=2)
        for n in range(8):
            rig.give(frame(n))
            rig.give(replace(report(n, 0.5 + n, sweep=1, index=n, count=8), stamp_ns=stamp(n) + 1))
        assert rig.stage_counter.snapshot().counts[Stage.MATCHED] == 0
        assert rig.rejected('no_focus') > 0
        assert rig.rejected('no_image') > 0

    @pytest.mark.fault(2)
    def test_a_frame_without_focus_is_dropped_and_counted_after_the_window(self):
        rig = Rig(window=0.25)
        messages = counted_sweep(1, 6, first=0)
        del messages[5]  # the report of frame 2
        rig.feed(messages)
        assert rig.rejected('no_focus') == 1
        last = rig.stage_counter.snapshot().last
        assert '1700000000.200000000' in last.text

    def test_waiting_frames_are_bounded_in_number(self):
        rig = Rig(window=1e6)
        limit = rig.assembler.settings.pairing.max_pending
        for n in range(limit + 50):
            rig.give(frame(n))
        assert rig.rejected('no_focus') == 50
        for n in range(4 * limit + 50):
            rig.give(report(1000 + n, 1.0))
        assert rig.rejected('no_image') == 50

    @pytest.mark.fault(2)
    @pytest.mark.parametrize(
        ('make', 'reason'),
        [
            (frame, 'no_focus'),
            (lambda n: report(n, 1.0), 'no_image'),
        ],
    )
    def test_what_never_finds_a_partner_is_counted_by_the_clock(self, make, reason):
        rig = Rig(window=0.25)
        rig.assembler.tick(0)
        rig.feed([make(n) for n in range(3)])
        for now in (100, 200, 350):
            rig.assembler.tick(now * MS)
        assert rig.reasons == set()
        rig.give(make(3))
        rig.assembler.tick(351 * MS)
        assert rig.rejected(reason) == 3
        # A clock that is set back begins to count anew.
        rig.assembler.tick(0)
        rig.assembler.tick(250 * MS)
        assert rig.rejected(reason) == 3
        rig.assembler.tick(251 * MS)
        assert rig.rejected(reason) == 4

    @pytest.mark.fault(7)
    @pytest.mark.parametrize('bad', [0, -1])
    def test_a_stamp_of_zero_is_refused(self, bad):
        rig = Rig()
        assert rig.give(frame(0, stamp_ns=bad)) == []
        assert rig.give(replace(report(0, 1.0), stamp_ns=bad)) == []
        assert rig.rejected('zero_stamp') == 2

    @pytest.mark.fault(7)
    def test_a_repeated_stamp_is_counted_and_ignored(self):
        rig = Rig()
        rig.give(frame(0))
        rig.give(frame(0, value=99))
        rig.give(report(0, 0.5, sweep=1, index=0, count=2))
        rig.give(frame(0, value=77))
        rig.give(report(0, 2.0, sweep=1, index=0, count=2))
        (stack,) = rig.shoot(1, 1.0, sweep=1, index=1, count=2)
        assert rig.rejected('duplicate_stamp') == 2
        assert frames_of(stack) == [0, 1]
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 1.0])

    @pytest.mark.parametrize('first', [0.5, 0.75])
    def test_two_reports_that_contradict_each_other_place_no_image(self, first):
        rig = Rig()
        rig.feed([report(0, first, sweep=1, index=0, count=2), report(0, 1.25 - first)])
        assert rig.give(frame(0)) == []
        assert rig.rejected('focus_disputed') == 1
        assert '0.500' in rig.stage_counter.snapshot().last.text
        assert '0.750' in rig.stage_counter.snapshot().last.text
        # The same report twice is none, nor is the same stamp after a jump of the clock.
        rig.feed([report(1, 1.0), report(1, 1.004), frame(1), report(200, 1.0), report(200, 2.0)])
        rig.feed(counted_sweep(1, 3, 100) + counted_sweep(2, 3, 199))
        assert rig.rejected('focus_disputed') == 1

    @pytest.mark.fault(4)
    @pytest.mark.parametrize(
        ('dioptres', 'state', 'reason'),
        [
            (float('nan'), LensState.SETTLED, 'focus_unknown'),
            (float('inf'), LensState.SETTLED, 'focus_unknown'),
            (1e6, LensState.SETTLED, 'focus_out_of_range'),
            (1.0, LensState.FAULT, 'lens_fault'),
            (1.0, LensState.MOVING, 'moving'),
        ],
    )
    def test_unusable_focus_is_counted_by_its_reason(self, dioptres, state, reason):
        rig = Rig()
        rig.shoot(0, dioptres, state=state, sweep=1, index=0, count=2)
        assert rig.shoot(1, 1.5, sweep=1, index=1, count=2) == []
        assert rig.reasons == {reason}


class TestCameras:
    def test_each_plane_has_the_calibration_of_its_own_stamp(self):
        rig = Rig()
        for n in range(3):
            rig.give((stamp(n), calibration(500.0 + n)))
            stacks = rig.shoot(n, 0.5 + n, sweep=1, index=n, count=3)
        assert [plane.camera.fx for plane in stacks[0].planes] == [500.0, 501.0, 502.0]

    def test_once_they_match_a_frame_waits_for_its_calibration(self):
        rig = Rig()
        rig.give((stamp(0), calibration(500.0)))
        rig.shoot(0, 0.5, sweep=1, index=0, count=2)
        assert rig.shoot(1, 1.0, sweep=1, index=1, count=2) == []
        (stack,) = rig.give((stamp(1), calibration(510.0)))
        assert [plane.camera.fx for plane in stack.planes] == [500.0, 510.0]

    def test_without_any_calibration_nothing_waits(self):
        (stack,) = Rig().feed(counted_sweep(1, 3, first=0))
        assert all(plane.camera is None for plane in stack.planes)

    def test_calibrations_that_never_match_cost_no_frame(self):
        rig = Rig()
        for n in range(3):
            rig.give((stamp(n) + 1, calibration()))
            stacks = rig.shoot(n, 0.5 + n, sweep=1, index=n, count=3)
        assert stacks[0].planes[0].camera is None

    def test_calibrations_that_stop_delay_the_frames_by_the_window_once(self):
        rig = Rig(window=0.25)
        rig.give((stamp(0), calibration()))
        assert rig.feed(counted_sweep(1, 3, 0)) == []
        assert rig.assembler.tick(0) == rig.assembler.tick(250 * MS) == []
        (stack,) = rig.assembler.tick(251 * MS)
        assert frames_of(stack) == [0, 1, 2]
        rig.shoot(4, 0.5, sweep=2, index=0, count=2)
        (stack,) = rig.shoot(5, 1.0, sweep=2, index=1, count=2)
        assert frames_of(stack) == [4, 5]

    def test_frames_whose_calibration_was_lost_are_not_overtaken(self):
        rig = Rig()
        rig.give((stamp(-1), calibration()))
        rig.shoot(-1, 9.0)
        messages = counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4)
        assert rig.feed(messages) == []
        stacks = rig.feed([(stamp(n), calibration(500.0 + n)) for n in range(6, 8)])
        assert [frames_of(stack) for stack in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        # They take the calibration nearest in time: the lens distorts as before.
        focal = [p.camera.fx for stack in stacks for p in stack.planes]
        assert focal == [500.0, 500.0, 500.0] + 3 * [506.0] + [506.0, 507.0]
        assert rig.rejected('camera_info_lost') == 6
        assert rig.reasons <= {'joined_midway', 'too_few_planes', 'camera_info_lost'}

    def test_latest_takes_the_newest_calibration(self):
        rig = Rig(exact_cameras=False)
        rig.give((START - 10**9, calibration(490.0)))
        stacks = rig.feed(counted_sweep(1, 3, first=0))
        assert stacks[0].planes[2].camera.fx == 490.0

    def test_a_calibration_of_another_size_is_refused_by_reason(self):
        rig = Rig()
        rig.give((stamp(0), calibration(width=640, height=480)))
        rig.shoot(0, 0.5, sweep=1, index=0, count=2)
        rig.give((stamp(1), calibration(width=640, height=480)))
        (stack,) = rig.shoot(1, 1.0, sweep=1, index=1, count=2)
        assert stack.planes[0].camera is None
        assert rig.rejected('camera_size') == 2


class TestCountedSweeps:
    def test_consecutive_sweeps_are_separate(self):
        rig = Rig()
        stacks = rig.feed(counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4))
        assert [(s.sweep_id, frames_of(s)) for s in stacks] == [
            (1, [0, 1, 2, 3]),
            (2, [4, 5, 6, 7]),
        ]

    @pytest.mark.fault(5)
    def test_the_newest_settled_frame_of_a_plane_wins(self):
        rig = Rig(accept_moving=True)
        moving = LensState.MOVING
        rig.shoot(0, 0.4, sweep=1, index=0, count=2, state=moving)
        rig.shoot(1, 0.5, sweep=1, index=0, count=2)
        rig.shoot(2, 0.5, sweep=1, index=0, count=2)
        rig.shoot(3, 0.6, sweep=1, index=0, count=2, state=moving)
        (stack,) = rig.shoot(4, 1.0, sweep=1, index=1, count=2)
        assert frames_of(stack) == [2, 4]
        assert stack.flags == StackFlag.NONE

    def test_a_moving_frame_in_a_stack_is_flagged(self):
        rig = Rig(accept_moving=True)
        rig.shoot(0, 0.5, sweep=1, index=0, count=2)
        (stack,) = rig.shoot(1, 0.9, sweep=1, index=1, count=2, state=LensState.MOVING)
        assert stack.flags == StackFlag.MOTION

    def test_more_frames_of_the_last_plane_are_not_a_new_sweep(self):
        rig = Rig()
        rig.feed(counted_sweep(1, 3, 0))
        for n in range(3, 20):
            assert rig.shoot(n, 1.0, sweep=1, index=2, count=3) == []
        assert not rig.assembler.in_progress
        assert len(rig.feed(counted_sweep(2, 3, 20))) == 1
        assert rig.reasons == set()

    def test_a_driver_that_never_changes_the_sweep_number(self):
        rig = Rig()
        stacks = rig.feed(counted_sweep(0, 3, 0) + counted_sweep(0, 3, 3) + counted_sweep(0, 3, 6))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

    @pytest.mark.fault(1)
    @pytest.mark.parametrize('held', [0, 1, 2, 3])
    @pytest.mark.parametrize('state', [LensState.SETTLED, LensState.MOVING])
    def test_who_drives_the_lens_starts_anew_with_the_same_number(self, held, state):
        rig = Rig(timeout_ns=1000 * MS, accept_moving=True)
        messages = counted_sweep(1, 5, first=0)[: 2 * (held + 1)]
        stacks = rig.feed(messages)
        # Meanwhile the camera goes on, for longer than the timeout.
        for n in range(held + 1, held + 31):
            stacks += rig.shoot(n, 1.0, sweep=1, index=held, count=5, state=state)
        stacks += rig.feed(counted_sweep(1, 5, first=40))
        flags = [stack.flags for stack in stacks]
        *before, whole = map(frames_of, stacks)
        assert whole == [40, 41, 42, 43, 44]
        # No stack has planes of both.
        kept = held if state == LensState.MOVING else held + 30
        assert before == ([] if held < 2 else [[*range(held), kept]])
        assert flags == [PARTIAL] * len(before) + [StackFlag.NONE]

    def test_a_sweep_number_that_stays_with_a_plane_lost(self):
        rig = Rig(min_size=2)
        messages = counted_sweep(0, 4, 0)[:-2] + counted_sweep(0, 4, 4)
        stacks = rig.feed(messages)
        assert [(frames_of(s), s.flags) for s in stacks] == [
            ([0, 1, 2], PARTIAL),
            ([4, 5, 6, 7], StackFlag.NONE),
        ]

    def test_a_lost_plane_makes_a_flagged_stack_when_the_next_sweep_begins(self):
        rig = Rig(min_size=3)
        first = counted_sweep(1, 4, 0)
        del first[2:4]
        assert rig.feed(first) == []
        second = counted_sweep(2, 4, 4)
        (stack,) = rig.feed(second[:2])
        assert stack.flags == PARTIAL
        assert frames_of(stack) == [0, 2, 3]
        (stack,) = rig.feed(second[2:])
        assert stack.flags == StackFlag.NONE

    def test_a_sweep_that_had_begun_before_is_used_only_if_it_is_whole(self):
        rig = Rig(min_size=2)
        for _ in range(2):
            rig.feed(counted_sweep(1, 6, 0)[4:])
            assert [frames_of(s) for s in rig.feed(counted_sweep(2, 3, 6))] == [[6, 7, 8]]
            rig.assembler.reset()
        assert rig.rejected('joined_midway') == 2
        assert len(rig.feed(counted_sweep(3, 3, 9)[2:] + counted_sweep(3, 3, 9)[:2])) == 1

    def test_too_few_planes_are_dropped_with_the_numbers(self):
        rig = Rig(min_size=4)
        rig.feed(counted_sweep(7, 8, 0)[:6])
        assert len(rig.feed(counted_sweep(8, 4, 10))) == 1
        assert rig.rejected('too_few_planes') == 1
        text = rig.stage_counter.snapshot().last.text
        assert 'sweep 7' in text and '3 of 8' in text and '4 are needed' in text

    def test_size_overrides_what_the_sweep_says(self):
        rig = Rig(size=3)
        stacks = rig.feed(counted_sweep(1, 5, 0) + counted_sweep(2, 5, 5))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [5, 6, 7]]
        assert rig.reasons == set()

    @pytest.mark.fault(4)
    @pytest.mark.parametrize('state', [LensState.SETTLED, LensState.UNKNOWN])
    def test_a_lens_that_is_not_where_it_was_sent_is_not_used(self, state):
        rig = Rig(min_size=2, command_tolerance=0.25)
        for index, focus in enumerate((0.5, 1.0, 1.5, 2.0)):
            rig.assembler.add_command(PlaneTarget(focus, 1, index, 4, stamp(0)))
        # Nothing is known of the last plane, nor of images outside of counted sweeps.
        rig.assembler.add_command(PlaneTarget(float('nan'), 1, 3, 4, stamp(0)))
        for index, reported in enumerate((0.74, 1.26, 1.5)):
            rig.shoot(index, reported, sweep=1, index=index, count=4, state=state)
        rig.shoot(3, 5.0, sweep=1, index=3, count=4, state=state)
        (stack,) = rig.shoot(4, 5.0, state=state)
        assert (frames_of(stack), stack.flags) == ([0, 2, 3], PARTIAL)
        assert rig.reasons == {'off_command'} and rig.rejected('off_command') == 1
        text = rig.stage_counter.snapshot().last.text
        assert 'sent to 1.000 dioptres and reports 1.260' in text
        assert 'stack.command_tolerance' in text

    @pytest.mark.fault(4)
    def test_where_the_lens_was_sent_can_be_left_out_of_account(self):
        rig = Rig(command_tolerance=0.0)
        rig.assembler.add_command(PlaneTarget(9.0, 1, 0, 2, stamp(0)))
        rig.shoot(0, 0.5, sweep=1, index=0, count=2)
        assert len(rig.shoot(1, 1.0, sweep=1, index=1, count=2)) == 1

    def test_commands_are_kept_in_bounded_number(self):
        rig = Rig()
        for n in range(1000):
            rig.assembler.add_command(PlaneTarget(1.0, n, 0, 2, stamp(n)))
        assert len(rig.assembler._commanded) == 4 * 32

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
    def test_a_counted_sweep_may_go_up_and_down(self, focus):
        rig = Rig()
        (stack,) = rig.feed(counted_sweep(1, 3, 0, dioptres=focus))
        assert stack.flags == StackFlag.NONE
        assert stack.focus_dioptres.tolist() == focus

    @pytest.mark.fault(5)
    def test_all_planes_at_one_focus_are_no_stack(self):
        rig = Rig()
        assert rig.feed(counted_sweep(1, 3, 0, dioptres=[1.0, 1.001, 1.002])) == []
        assert rig.reasons == {'same_focus'}

    def test_more_planes_than_a_stack_may_have(self):
        rig = Rig()
        assert rig.shoot(0, 1.0, sweep=1, index=0, count=33) == []
        assert rig.shoot(1, 1.0, sweep=1, index=9, count=8) == []
        assert rig.reasons == {'too_many_planes', 'bad_plane_index'}

    def test_a_plane_that_comes_after_its_sweep_is_late_and_next_time_waited_for(self):
        rig = Rig(window=0.5, min_size=2)

        def last_plane_after_the_next_sweep_began(k):
            this, following = counted_sweep(k, 3, 3 * k), counted_sweep(k + 1, 3, 3 * k + 3)
            return rig.feed(this[:4] + following[:2] + this[4:])

        (stack,) = last_plane_after_the_next_sweep_began(0)
        assert (frames_of(stack), stack.flags) == ([0, 1], PARTIAL)
        assert rig.rejected('late') == 1
        (stack,) = last_plane_after_the_next_sweep_began(2)
        assert (frames_of(stack), stack.flags) == ([6, 7, 8], StackFlag.NONE)
        assert rig.rejected('late') == 1


class TestTurningSweeps:
    def shoot_all(self, rig, focus, first=0):
        return [s for n, dioptres in enumerate(focus) for s in rig.shoot(first + n, dioptres)]

    def test_triangle_both_directions_share_the_turning_plane(self):
        triangle = [0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5]
        stacks = self.shoot_all(Rig(), triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]

    def test_sawtooth_flies_back(self):
        stacks = self.shoot_all(Rig(), [0.5, 1.0, 1.5, 2.0] * 3 + [0.5])
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    def test_once_known_a_sweep_is_complete_at_its_last_plane(self):
        rig = Rig()
        self.shoot_all(rig, [0.5, 1.0, 1.5] * 2 + [0.5, 1.0])
        (stack,) = rig.shoot(8, 1.5)
        assert frames_of(stack) == [6, 7, 8]

    @pytest.mark.fault(5)
    def test_repeated_positions_are_one_plane(self):
        focus = [0.5, 0.5, 0.501, 1.0, 1.0, 1.5, 1.5, 0.5, 0.5, 1.0, 1.5]
        stacks = self.shoot_all(Rig(), focus)
        assert [frames_of(s) for s in stacks] == [[2, 4, 6], [8, 9, 10]]

    def test_two_positions(self):
        stacks = self.shoot_all(Rig(min_size=3), [0.5, 1.5] * 3)
        assert [frames_of(s) for s in stacks] == [[2, 3], [4, 5]]

    def test_listening_that_begins_in_the_middle(self):
        rig = Rig(min_size=2)
        triangle = [1.5, 2.0, 1.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5]
        stacks = self.shoot_all(rig, triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1], [2, 3, 4], [4, 5, 6, 7]]

    @pytest.mark.parametrize(
        'focus',
        [
            [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
            [0.5, 1.0, 1.5, 2.0, 0.5, 1.0, 1.5, 2.0],
        ],
    )
    def test_size_cuts_the_sequence(self, focus):
        stacks = self.shoot_all(Rig(size=4), focus)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_size_with_a_triangle(self):
        triangle = [0.5, 1.0, 1.5, 1.0, 0.5, 1.0, 1.5]
        stacks = self.shoot_all(Rig(size=3), triangle)
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]

    @pytest.mark.fault(5)
    def test_a_lens_that_rests_makes_no_stack_and_keeps_one_frame(self):
        rig = Rig(min_size=2)
        for n in range(200):
            assert rig.shoot(n, 1.0) == []
        assert rig.assembler.progress.planes == 1

    def test_a_focus_ramp_without_end_is_cut_at_the_largest_stack(self):
        stacks = self.shoot_all(Rig(), [0.02 * n for n in range(80)])
        assert [len(s.planes) for s in stacks] == [32, 32]


class TestTimeout:
    def test_a_pause_in_the_stamps_ends_the_sweep(self):
        rig = Rig(min_size=2, timeout_ns=300 * MS)
        rig.feed(counted_sweep(1, 5, 0)[:6])
        (stack,) = rig.shoot(30, 0.5, sweep=2, index=0, count=5)
        assert (frames_of(stack), stack.flags) == ([0, 1, 2], PARTIAL)

    @pytest.mark.fault(1)
    def test_the_clock_ends_the_sweep_of_a_camera_that_stopped(self):
        rig = Rig(min_size=2, timeout_ns=300 * MS)
        rig.feed(counted_sweep(1, 5, 0)[:6])
        assert rig.assembler.in_progress
        assert rig.assembler.tick(0) == []
        assert rig.assembler.tick(250 * MS) == []
        (stack,) = rig.assembler.tick(301 * MS)
        assert (frames_of(stack), stack.flags) == ([0, 1, 2], PARTIAL)
        assert not rig.assembler.in_progress
        assert (rig.assembler.progress.planes, rig.assembler.progress.expected) == (3, 5)
        assert rig.assembler.tick(10**12) == []
        assert len(rig.feed(counted_sweep(2, 5, 100))) == 1

    def test_every_plane_restarts_the_clock(self):
        rig = Rig(min_size=2, timeout_ns=300 * MS)
        for n in range(4):
            rig.assembler.tick(n * 200 * MS)
            rig.shoot(n, 0.5 + n, sweep=1, index=n, count=5)
        assert rig.assembler.tick(4 * 200 * MS) == []
        assert len(rig.shoot(4, 9.0, sweep=1, index=4, count=5)) == 1

    @pytest.mark.fault(1)
    def test_too_little_of_a_sweep_is_counted_when_the_camera_stops(self):
        rig = Rig(min_size=4)
        rig.feed(counted_sweep(1, 8, 0)[:4])
        rig.assembler.tick(0)
        assert rig.assembler.tick(10**10) == []
        assert 'the camera or the lens stopped' in rig.stage_counter.snapshot().last.text


class TestResets:
    @pytest.mark.fault(6)
    @pytest.mark.parametrize(
        'change',
        [
            {'image': np.zeros((6, 8, 3), np.uint8)},
            {'encoding': 'bgr8'},
            {'frame_id': 'other'},
            {'image': np.zeros((3, 4), np.uint8)},
        ],
    )
    def test_another_format_drops_the_sweep_in_progress(self, change):
        rig = Rig()
        rig.feed(counted_sweep(1, 3, 0)[:4])
        rig.give(replace(frame(2), **change))
        assert rig.give(report(2, 1.0, sweep=1, index=2, count=3)) == []
        assert rig.rejected('format_changed') == 1
        messages = [
            replace(m, **change) if hasattr(m, 'image') else m for m in counted_sweep(2, 3, 3)
        ]
        assert len(rig.feed(messages)) == 1

    @pytest.mark.fault(6)
    def test_what_came_before_the_first_image_of_another_format_is_kept(self):
        rig = Rig()
        larger = np.zeros((6, 8, 3), np.uint8)
        for n in range(6):
            rig.give((stamp(n), calibration(500.0, *((4, 3) if n < 3 else (8, 6)))))
            rig.give(report(n, 0.5 + n % 3, sweep=1 + n // 3, index=n % 3, count=3))
            stacks = rig.give(frame(n) if n < 3 else replace(frame(n), image=larger))
        (stack,) = stacks
        assert (stack.sweep_id, stack.size) == (2, (6, 8))
        assert [plane.camera.width for plane in stack.planes] == [8, 8, 8]
        assert rig.reasons == set()

    @pytest.mark.fault(8)
    def test_a_clock_that_jumps_back_drops_what_lies_in_the_future(self):
        rig = Rig(min_size=2)
        rig.feed(counted_sweep(1, 4, 100)[:6])
        stacks = rig.feed(counted_sweep(1, 4, 0))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3]]
        assert rig.rejected('clock_jump') == 1

    @pytest.mark.fault(8)
    @pytest.mark.parametrize('reports_first', [False, True])
    def test_a_bag_that_loops_loses_no_sweep_of_the_new_round(self, reports_first):
        rig = Rig(min_size=2)
        one_round = counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4)
        if reports_first:
            one_round[::2], one_round[1::2] = one_round[1::2], one_round[::2]
        for _ in range(3):
            assert [frames_of(s) for s in rig.feed(one_round)] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_one_stamp_from_the_future_costs_no_more_than_the_sweep_it_hits(self):
        rig = Rig(min_size=2)
        rig.feed(counted_sweep(1, 4, 0)[:4])
        rig.give(frame(10**6))
        rig.feed(counted_sweep(1, 4, 0)[4:])
        assert [frames_of(s) for s in rig.feed(counted_sweep(2, 4, 4))] == [[4, 5, 6, 7]]

    def test_reset_forgets_everything(self):
        rig = Rig()
        rig.feed(counted_sweep(1, 4, 0)[:6])
        rig.assembler.reset()
        assert rig.assembler.progress is None
        assert rig.feed(counted_sweep(1, 4, 0)[6:]) == []
        assert len(rig.feed(counted_sweep(2, 4, 10))) == 1

    def test_a_new_size_takes_effect_with_the_next_sweep(self):
        rig = Rig()
        rig.feed(counted_sweep(1, 4, 0)[:4])
        rig.assembler.settings = replace(rig.assembler.settings, size=2)
        assert rig.rejected('reconfigured') == 1
        assert [frames_of(s) for s in rig.feed(counted_sweep(2, 4, 4))] == [[4, 5]]


class TestSliding:
    def test_a_depth_a_frame_once_every_position_is_known(self):
        rig = Rig(sliding=True)
        stacks = rig.feed(counted_sweep(1, 3, 0) + counted_sweep(2, 3, 3))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]

    def test_a_triangle_without_numbers(self):
        rig = Rig(sliding=True)
        focus = [0.5, 1.0, 1.5, 1.0, 0.5, 1.0]
        stacks = [s for n, d in enumerate(focus) for s in rig.shoot(n, d)]
        assert [frames_of(s) for s in stacks] == [[0, 2, 3], [2, 3, 4], [2, 4, 5]]

    def test_a_position_that_is_lost_is_forgotten_and_flagged(self):
        rig = Rig(sliding=True, min_size=2)
        rig.feed(counted_sweep(1, 4, 0))
        stacks = []
        for k in range(1, 6):
            stacks += rig.feed(counted_sweep(k, 4, 4 * k)[2:])
        assert stacks[0].flags == StackFlag.NONE
        assert stacks[-1].flags == PARTIAL
        assert len(stacks[-1].planes) == 3

    def test_after_a_pause_everything_is_collected_anew(self):
        rig = Rig(sliding=True)
        rig.feed(counted_sweep(1, 3, 0))
        stacks = rig.feed(counted_sweep(2, 3, 1000))
        assert [frames_of(s) for s in stacks] == [[1000, 1001, 1002]]

    def test_size_keeps_the_newest_positions(self):
        rig = Rig(sliding=True, size=2)
        stacks = [s for n in range(4) for s in rig.shoot(n, 0.5 + 0.5 * n)]
        assert [frames_of(s) for s in stacks] == [[0, 1], [1, 2], [2, 3]]


@st.composite
def interleavings(draw):
    """Two sweeps, images and reports and calibrations each in order, merged in any way.

    No topic runs ahead of another by as much as the window.
    """
    first = counted_sweep(1, 5, 0)
    second = counted_sweep(2, 5, 5)
    messages = first + second
    topics = [messages[::2], messages[1::2], [(stamp(n), calibration()) for n in range(10)]]
    if draw(st.booleans()):
        topics.pop()
    merged, positions = [], [0] * len(topics)
    while any(p < 10 for p in positions):
        slowest = min(positions)
        choices = [t for t, p in enumerate(positions) if p < 10 and p - slowest < 4]
        topic = draw(st.sampled_from(choices))
        merged.append(topics[topic][positions[topic]])
        positions[topic] += 1
    return merged


@st.composite
def bursts(draw):
    """Three sweeps at once: each topic in order, any topic any length ahead of the others."""
    messages = [m for k in range(3) for m in counted_sweep(k + 1, 6, 6 * k)]
    topics = [messages[::2], messages[1::2], [(stamp(n), calibration()) for n in range(18)]]
    order = draw(st.permutations([0] * 18 + [1] * 18 + [2] * 18))
    streams = [iter(topic) for topic in topics]
    return [next(streams[topic]) for topic in order]


class TestOrder:
    @pytest.mark.parametrize('order', ['images first', 'reports first', 'calibrations last'])
    def test_three_sweeps_in_one_burst_are_complete(self, order):
        # Two seconds of sweeps, four times the pairing window, before the other topic says a word.
        rig = Rig(window=0.5)
        messages = [m for k in range(3) for m in counted_sweep(k + 1, 8, 8 * k)]
        images, reports = messages[::2], messages[1::2]
        calibrations = [(stamp(n), calibration()) for n in range(24)]
        sequence = {
            'images first': images + reports + calibrations,
            'reports first': reports + images + calibrations,
            'calibrations last': messages + calibrations,
        }[order]
        stacks = rig.feed(sequence)
        assert [frames_of(s) for s in stacks] == [
            list(range(first, first + 8)) for first in (0, 8, 16)
        ]
        assert rig.reasons == set()

    @given(bursts(), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_a_burst_in_any_order_of_the_topics_loses_nothing(self, messages, calibrated):
        rig = Rig()
        if calibrated:
            rig.give((stamp(-9), calibration()))
            rig.shoot(-9, 9.0, sweep=9, index=1, count=2)
        stacks = rig.feed(messages)
        assert [frames_of(s) for s in stacks] == [
            list(range(first, first + 6)) for first in (0, 6, 12)
        ]
        assert rig.reasons <= {'joined_midway'}
        if calibrated:
            assert all(plane.camera is not None for s in stacks for plane in s.planes)

    @pytest.mark.fault(3)
    @given(interleavings())
    @settings(max_examples=200, deadline=None)
    def test_how_the_topics_interleave_changes_nothing(self, messages):
        rig = Rig()
        assert [frames_of(s) for s in rig.feed(messages)] == [
            [0, 1, 2, 3, 4],
            [5, 6, 7, 8, 9],
        ]
        assert rig.reasons == set()

    @pytest.mark.fault(3, 7)
    @given(st.permutations(counted_sweep(1, 6, 0)))
    @settings(max_examples=200, deadline=None)
    def test_any_order_within_one_sweep_gives_the_same_stack(self, messages):
        rig = Rig(window=1.0)
        (stack,) = rig.feed(messages)
        assert frames_of(stack) == [0, 1, 2, 3, 4, 5]
        np.testing.assert_allclose(stack.focus_dioptres, 0.5 + 0.25 * np.arange(6))

    @pytest.mark.fault(2, 7)
    @given(
        st.lists(
            st.tuples(
                st.integers(-3, 60),
                st.sampled_from(['frame', 'report', 'camera', 'tick', 'reset']),
                st.floats(allow_nan=True, allow_infinity=True, width=32),
                st.sampled_from(list(LensState)),
                st.integers(0, 3),
                st.integers(0, 6),
                st.integers(0, 6),
            ),
            max_size=120,
        ),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0, 2, 4]),
    )
    @settings(max_examples=300, deadline=None)
    def test_whatever_comes_no_wrong_pair_and_no_exception(self, events, sliding, moving, size):
        rig = Rig(sliding=sliding, accept_moving=moving, size=size, min_size=2)
        sent = {}
        stacks = []
        for n, kind, dioptres, state, sweep, index, count in events:
            when = stamp(n) if n >= 0 else 0
            if kind == 'frame':
                stacks += rig.give(frame(n, stamp_ns=when))
            elif kind == 'report':
                message = replace(report(n, dioptres, state, sweep, index, count), stamp_ns=when)
                sent.setdefault(when, []).append(message)
                stacks += rig.give(message)
            elif kind == 'camera':
                stacks += rig.give((when, calibration()))
            elif kind == 'tick':
                stacks += rig.assembler.tick(when)
            else:
                rig.assembler.reset()
        for stack in stacks:
            numbers = frames_of(stack)
            assert numbers == sorted(set(numbers))
            for plane in stack.planes:
                assert plane.focus_dioptres in [r.dioptres for r in sent[plane.stamp_ns]]


def test_planes_are_foreseen_as_they_join_a_sweep_but_not_the_one_that_ends_it():
    foreseen = []
    assembler = SweepAssembler(AssemblerSettings(), StageCounter(), foreseen.append)
    stacks = []
    for n in range(3):
        stacks += assembler.add_frame(frame(n))
        stacks += assembler.add_reading(report(n, 0.5 + n, index=n, count=3))
        if n < 2:
            assert [plane.focus_dioptres for plane in foreseen] == [0.5 + i for i in range(n + 1)]
    assert len(stacks) == 1 and len(foreseen) == 2
    # The very arrays, by which what was made of them is found again.
    assert [plane.image is early.image for plane, early in zip(stacks[0].planes, foreseen)] == [
        True,
        True,
    ]


def test_the_funnel_counts_every_stage():
    rig = Rig()
    rig.feed(counted_sweep(1, 3, 0) + counted_sweep(2, 3, 3)[:2])
    counts = rig.stage_counter.snapshot().counts
    assert (counts[Stage.MATCHED], counts[Stage.STACKED]) == (4, 1)


def test_a_long_run_keeps_memory_flat():
    rig = Rig()
    for k in range(400):
        for message in counted_sweep(k, 5, 5 * k):
            rig.give(message)
    assembler = rig.assembler
    assert len(assembler._samples) <= 10
    assert assembler._pairing.pending_frames == 0
    assert PERIOD > 0
