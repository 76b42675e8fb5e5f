# SPDX-License-Identifier: Apache-2.0
"""Matching of frames, lens readings and calibrations by stamp."""

from dataclasses import replace

import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.sweep.stage_counter import Stage
from dualfocus_ros.sweep.time_synchronizer import StampedBuffer
from sweep_messages import (
    MS,
    START,
    SweepFixture,
    calibration,
    counted_sweep,
    frame,
    frames_of,
    reading,
    stamp,
)

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


class TestReadings:
    def test_stack_is_returned_with_its_last_message(self):
        fixture = SweepFixture()
        messages = counted_sweep(1, 5, first=0)
        assert fixture.feed(messages[:-1]) == []
        (stack,) = fixture.add(messages[-1])
        assert frames_of(stack) == [0, 1, 2, 3, 4]
        assert stack.sweep_id == 1
        assert stack.frame_id == 'camera'
        assert stack.flags == StackFlag.NONE
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 0.75, 1.0, 1.25, 1.5])

    @pytest.mark.fault(3)
    @pytest.mark.parametrize('late', ['frames', 'readings'])
    def test_matches_messages_late_by_the_window(self, late):
        fixture = SweepFixture(window=0.5)
        messages = counted_sweep(1, 5, first=0)
        frames, readings = messages[::2], messages[1::2]
        stacks = fixture.feed(readings + frames if late == 'frames' else frames + readings)
        assert [frames_of(stack) for stack in stacks] == [[0, 1, 2, 3, 4]]

    @pytest.mark.fault(2)
    def test_never_matches_different_stamps(self):
        fixture = SweepFixture(window=0.2, min_size=2)
        for n in range(8):
            fixture.add(frame(n))
            fixture.add(
                replace(reading(n, 0.5 + n, sweep=1, index=n, count=8), stamp_ns=stamp(n) + 1)
            )
        assert fixture.stage_counter.snapshot().counts[Stage.MATCHED] == 0
        assert fixture.rejected('no_focus') > 0
        assert fixture.rejected('no_image') > 0

    @pytest.mark.fault(2)
    def test_drops_a_frame_without_reading_after_the_window(self):
        fixture = SweepFixture(window=0.25)
        messages = counted_sweep(1, 6, first=0)
        del messages[5]  # the reading of frame 2
        fixture.feed(messages)
        assert fixture.rejected('no_focus') == 1
        last = fixture.stage_counter.snapshot().last
        assert '1700000000.200000000' in last.text

    def test_number_of_waiting_messages_is_bounded(self):
        fixture = SweepFixture(window=1e6)
        limit = fixture.assembler.settings.synchronizer.max_pending
        for n in range(limit + 50):
            fixture.add(frame(n))
        assert fixture.rejected('no_focus') == 50
        for n in range(4 * limit + 50):
            fixture.add(reading(1000 + n, 1.0))
        assert fixture.rejected('no_image') == 50

    @pytest.mark.fault(2)
    @pytest.mark.parametrize(
        ('make', 'reason'),
        [
            (frame, 'no_focus'),
            (lambda n: reading(n, 1.0), 'no_image'),
        ],
    )
    def test_drops_unmatched_messages_by_the_clock(self, make, reason):
        fixture = SweepFixture(window=0.25)
        fixture.assembler.tick(0)
        fixture.feed([make(n) for n in range(3)])
        for now in (100, 200, 350):
            fixture.assembler.tick(now * MS)
        assert fixture.reasons == set()
        fixture.add(make(3))
        fixture.assembler.tick(351 * MS)
        assert fixture.rejected(reason) == 3
        # A clock that is set back restarts the timeout.
        fixture.assembler.tick(0)
        fixture.assembler.tick(250 * MS)
        assert fixture.rejected(reason) == 3
        fixture.assembler.tick(251 * MS)
        assert fixture.rejected(reason) == 4

    @pytest.mark.fault(7)
    @pytest.mark.parametrize('bad', [0, -1])
    def test_rejects_stamps_of_zero_and_below(self, bad):
        fixture = SweepFixture()
        assert fixture.add(frame(0, stamp_ns=bad)) == []
        assert fixture.add(replace(reading(0, 1.0), stamp_ns=bad)) == []
        assert fixture.rejected('zero_stamp') == 2

    @pytest.mark.fault(7)
    def test_rejects_a_second_image_of_one_stamp(self):
        fixture = SweepFixture()
        fixture.add(frame(0))
        fixture.add(frame(0, value=99))
        fixture.add(reading(0, 0.5, sweep=1, index=0, count=2))
        fixture.add(frame(0, value=77))
        fixture.add(reading(0, 2.0, sweep=1, index=0, count=2))
        (stack,) = fixture.add_frame(1, 1.0, sweep=1, index=1, count=2)
        assert fixture.rejected('duplicate_stamp') == 2
        assert frames_of(stack) == [0, 1]
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 1.0])

    @pytest.mark.parametrize('first', [0.5, 0.75])
    def test_rejects_images_with_contradicting_readings(self, first):
        fixture = SweepFixture()
        fixture.feed([reading(0, first, sweep=1, index=0, count=2), reading(0, 1.25 - first)])
        assert fixture.add(frame(0)) == []
        assert fixture.rejected('focus_disputed') == 1
        assert '0.500' in fixture.stage_counter.snapshot().last.text
        assert '0.750' in fixture.stage_counter.snapshot().last.text
        # A repeated reading is no contradiction, nor is a repeated stamp after a clock jump.
        fixture.feed(
            [reading(1, 1.0), reading(1, 1.004), frame(1), reading(200, 1.0), reading(200, 2.0)]
        )
        fixture.feed(counted_sweep(1, 3, 100) + counted_sweep(2, 3, 199))
        assert fixture.rejected('focus_disputed') == 1

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
    def test_rejects_unusable_readings_by_reason(self, dioptres, state, reason):
        fixture = SweepFixture()
        fixture.add_frame(0, dioptres, state=state, sweep=1, index=0, count=2)
        assert fixture.add_frame(1, 1.5, sweep=1, index=1, count=2) == []
        assert fixture.reasons == {reason}


class TestCameras:
    def test_planes_have_the_calibration_of_their_stamp(self):
        fixture = SweepFixture()
        for n in range(3):
            fixture.add((stamp(n), calibration(500.0 + n)))
            stacks = fixture.add_frame(n, 0.5 + n, sweep=1, index=n, count=3)
        assert [plane.camera.fx for plane in stacks[0].planes] == [500.0, 501.0, 502.0]

    def test_frames_wait_for_calibrations_once_they_match(self):
        fixture = SweepFixture()
        fixture.add((stamp(0), calibration(500.0)))
        fixture.add_frame(0, 0.5, sweep=1, index=0, count=2)
        assert fixture.add_frame(1, 1.0, sweep=1, index=1, count=2) == []
        (stack,) = fixture.add((stamp(1), calibration(510.0)))
        assert [plane.camera.fx for plane in stack.planes] == [500.0, 510.0]

    def test_frames_do_not_wait_without_calibrations(self):
        (stack,) = SweepFixture().feed(counted_sweep(1, 3, first=0))
        assert all(plane.camera is None for plane in stack.planes)

    def test_unmatched_calibrations_drop_no_frame(self):
        fixture = SweepFixture()
        for n in range(3):
            fixture.add((stamp(n) + 1, calibration()))
            stacks = fixture.add_frame(n, 0.5 + n, sweep=1, index=n, count=3)
        assert stacks[0].planes[0].camera is None

    def test_ceasing_calibrations_delay_frames_once(self):
        fixture = SweepFixture(window=0.25)
        fixture.add((stamp(0), calibration()))
        assert fixture.feed(counted_sweep(1, 3, 0)) == []
        assert fixture.assembler.tick(0) == fixture.assembler.tick(250 * MS) == []
        (stack,) = fixture.assembler.tick(251 * MS)
        assert frames_of(stack) == [0, 1, 2]
        fixture.add_frame(4, 0.5, sweep=2, index=0, count=2)
        (stack,) = fixture.add_frame(5, 1.0, sweep=2, index=1, count=2)
        assert frames_of(stack) == [4, 5]

    def test_lost_calibrations_keep_the_order_of_frames(self):
        fixture = SweepFixture()
        fixture.add((stamp(-1), calibration()))
        fixture.add_frame(-1, 9.0)
        messages = counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4)
        assert fixture.feed(messages) == []
        stacks = fixture.feed([(stamp(n), calibration(500.0 + n)) for n in range(6, 8)])
        assert [frames_of(stack) for stack in stacks] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        # Frames take the calibration nearest in time.
        focal = [p.camera.fx for stack in stacks for p in stack.planes]
        assert focal == [500.0, 500.0, 500.0] + 3 * [506.0] + [506.0, 507.0]
        assert fixture.rejected('camera_info_lost') == 6
        assert fixture.reasons <= {'joined_midway', 'too_few_planes', 'camera_info_lost'}

    def test_inexact_matching_uses_the_newest_calibration(self):
        fixture = SweepFixture(exact_cameras=False)
        fixture.add((START - 10**9, calibration(490.0)))
        stacks = fixture.feed(counted_sweep(1, 3, first=0))
        assert stacks[0].planes[2].camera.fx == 490.0

    def test_rejects_calibrations_of_another_size(self):
        fixture = SweepFixture()
        fixture.add((stamp(0), calibration(width=640, height=480)))
        fixture.add_frame(0, 0.5, sweep=1, index=0, count=2)
        fixture.add((stamp(1), calibration(width=640, height=480)))
        (stack,) = fixture.add_frame(1, 1.0, sweep=1, index=1, count=2)
        assert stack.planes[0].camera is None
        assert fixture.rejected('camera_size') == 2


def filled_buffer(*stamps):
    """Return a buffer with an item at each stamp."""
    buffer = StampedBuffer()
    for stamp_ns in stamps:
        buffer.add(stamp_ns, str(stamp_ns))
    return buffer


def test_passed_by_more_than_the_window():
    buffer = filled_buffer(100)
    assert buffer.has_passed(99) and not buffer.has_passed(100)
    assert buffer.has_passed(89, window=10) and not buffer.has_passed(90, window=10)
    assert not StampedBuffer().has_passed(0)


def test_removal_by_stamp():
    buffer = filled_buffer(10, 20, 30)
    buffer.remove_before(20)
    assert list(buffer.items) == [20, 30]
    buffer.remove_after(20)
    assert list(buffer.items) == [20] and buffer.newest == 20
    buffer.clear()
    assert not buffer.items and buffer.newest is None


def test_overdue_items_by_the_clock():
    buffer = filled_buffer(10)
    assert buffer.overdue(1000, 5) == set()
    buffer.add(20, '20')
    assert buffer.overdue(1004, 5) == set()
    assert buffer.overdue(1006, 5) == {10}
    assert buffer.overdue(0, 5) == set()  # the clock was set back
    assert buffer.overdue(6, 5) == {10, 20}
