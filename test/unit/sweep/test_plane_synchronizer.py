# SPDX-License-Identifier: Apache-2.0
"""Stacks of several cameras, matched by stamp."""

from dataclasses import replace

import numpy as np
import pytest

from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer, PlaneSynchronizerSettings
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from sweep_messages import MS, calibration, frame, stamp

FOCUS = (0.2, 0.8, 1.6)


@pytest.fixture
def stage_counter():
    return StageCounter()


def synchronizer(stage_counter, **settings):
    return PlaneSynchronizer(PlaneSynchronizerSettings(FOCUS, **settings), stage_counter)


def add_frames(sync, n, offsets=(0, 0, 0), planes=(0, 1, 2)):
    """Add the n-th frame of each camera, with an offset in milliseconds."""
    stacks = []
    for plane in planes:
        image = frame(n, value=10 * n + plane, stamp_ns=stamp(n) + int(offsets[plane] * MS))
        stacks += sync.add(plane, image, calibration().camera)
    return stacks


def test_equal_stamps_make_a_stack_in_any_order(stage_counter):
    sync = synchronizer(stage_counter, tolerance_ns=0)
    (stack,) = add_frames(sync, 3, planes=(2, 0, 1))
    assert [(p.focus_dioptres, int(p.image[0, 0, 0])) for p in stack.planes] == [
        (0.2, 30),
        (0.8, 31),
        (1.6, 32),
    ]
    assert stack.flags == StackFlag.NONE
    assert stack.planes[0].camera == calibration().camera
    assert stage_counter.snapshot().counts[Stage.STACKED] == 1


def test_matches_stamps_within_the_tolerance(stage_counter):
    sync = synchronizer(stage_counter, tolerance_ns=5 * MS)
    assert len(add_frames(sync, 1, offsets=(0, 2, 4.9))) == 1
    assert add_frames(sync, 2, offsets=(0, 2, 5.1)) == []


def test_never_mixes_two_exposures(stage_counter):
    sync = synchronizer(stage_counter, tolerance_ns=5 * MS)
    add_frames(sync, 1, planes=(0, 1))
    add_frames(sync, 2, planes=(0, 1))
    (stack,) = add_frames(sync, 2, planes=(2,))
    assert {p.stamp_ns for p in stack.planes} == {stamp(2)}
    assert stage_counter.snapshot().rejected('unsynchronised') == 2
    assert add_frames(sync, 1, planes=(2,)) == []
    assert stage_counter.snapshot().rejected('late') == 1


def test_failing_camera_leaves_flagged_stacks(stage_counter):
    sync = synchronizer(stage_counter, min_size=2, timeout_ns=150 * MS)
    stacks = [s for n in range(6) for s in add_frames(sync, n, planes=(0, 2))]
    assert stacks
    assert all(s.flags == StackFlag.PLANE_MISSING | StackFlag.PARTIAL for s in stacks)
    assert all({p.focus_dioptres for p in s.planes} == {0.2, 1.6} for s in stacks)


def test_drops_groups_below_min_size(stage_counter):
    sync = synchronizer(stage_counter, min_size=3, timeout_ns=150 * MS)
    assert [s for n in range(6) for s in add_frames(sync, n, planes=(0, 2))] == []
    assert stage_counter.snapshot().rejected('unsynchronised') > 0


def test_timeout_takes_pending_frames(stage_counter):
    sync = synchronizer(stage_counter, min_size=2, timeout_ns=150 * MS)
    add_frames(sync, 0, planes=(0, 1))
    assert sync.tick(0) == []
    assert sync.tick(150 * MS) == []
    assert len(sync.tick(151 * MS)) == 1
    assert sync.waiting == 0


def test_number_of_waiting_frames_is_bounded(stage_counter):
    sync = synchronizer(stage_counter, timeout_ns=10**15)
    for n in range(50):
        add_frames(sync, n, planes=(1,))
    assert stage_counter.snapshot().rejected('unsynchronised') == 42


def test_zero_stamp_and_clock_jump(stage_counter):
    sync = synchronizer(stage_counter)
    sync.add(0, frame(0, stamp_ns=0), None)
    assert stage_counter.snapshot().rejected('zero_stamp') == 1
    add_frames(sync, 100)
    assert len(add_frames(sync, 0)) == 1
    assert stage_counter.snapshot().rejected('clock_jump') == 1


def test_size_change_drops_pending_frames(stage_counter):
    sync = synchronizer(stage_counter)
    sync.add(0, frame(0), None)
    big = replace(frame(0), image=np.zeros((6, 8, 3), np.uint8))
    for plane in range(3):
        stacks = sync.add(plane, big, None)
    assert len(stacks) == 1
    assert stage_counter.snapshot().rejected('format_changed') == 1
