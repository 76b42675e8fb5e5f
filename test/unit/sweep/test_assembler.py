# SPDX-License-Identifier: Apache-2.0
"""Stacks of a sweep: timeouts, resets, order of messages, memory."""

from dataclasses import replace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.focal_stack import StackFlag
from dualfocus_ros.sweep.assembler import AssemblerSettings, SweepAssembler
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from sweep_messages import (
    MS,
    SweepFixture,
    calibration,
    counted_sweep,
    frame,
    frames_of,
    reading,
    stamp,
)

PARTIAL = StackFlag.PLANE_MISSING | StackFlag.PARTIAL


class TestTimeout:
    def test_pause_in_the_stamps_ends_the_sweep(self):
        fixture = SweepFixture(min_size=2, timeout_ns=300 * MS)
        fixture.feed(counted_sweep(1, 5, 0)[:6])
        (stack,) = fixture.add_frame(30, 0.5, sweep=2, index=0, count=5)
        assert (frames_of(stack), stack.flags) == ([0, 1, 2], PARTIAL)

    @pytest.mark.fault(1)
    def test_timeout_ends_the_sweep_of_a_stopped_camera(self):
        fixture = SweepFixture(min_size=2, timeout_ns=300 * MS)
        fixture.feed(counted_sweep(1, 5, 0)[:6])
        assert fixture.assembler.in_progress
        assert fixture.assembler.tick(0) == []
        assert fixture.assembler.tick(250 * MS) == []
        (stack,) = fixture.assembler.tick(301 * MS)
        assert (frames_of(stack), stack.flags) == ([0, 1, 2], PARTIAL)
        assert not fixture.assembler.in_progress
        assert (fixture.assembler.progress.planes, fixture.assembler.progress.expected) == (3, 5)
        assert fixture.assembler.tick(10**12) == []
        assert len(fixture.feed(counted_sweep(2, 5, 100))) == 1

    def test_each_plane_restarts_the_timeout(self):
        fixture = SweepFixture(min_size=2, timeout_ns=300 * MS)
        for n in range(4):
            fixture.assembler.tick(n * 200 * MS)
            fixture.add_frame(n, 0.5 + n, sweep=1, index=n, count=5)
        assert fixture.assembler.tick(4 * 200 * MS) == []
        assert len(fixture.add_frame(4, 9.0, sweep=1, index=4, count=5)) == 1

    @pytest.mark.fault(1)
    def test_timeout_counts_a_sweep_of_too_few_planes(self):
        fixture = SweepFixture(min_size=4)
        fixture.feed(counted_sweep(1, 8, 0)[:4])
        fixture.assembler.tick(0)
        assert fixture.assembler.tick(10**10) == []
        assert 'the camera or the lens stopped' in fixture.stage_counter.snapshot().last.text


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
    def test_format_change_drops_the_sweep(self, change):
        fixture = SweepFixture()
        fixture.feed(counted_sweep(1, 3, 0)[:4])
        fixture.add(replace(frame(2), **change))
        assert fixture.add(reading(2, 1.0, sweep=1, index=2, count=3)) == []
        assert fixture.rejected('format_changed') == 1
        messages = [
            replace(m, **change) if hasattr(m, 'image') else m for m in counted_sweep(2, 3, 3)
        ]
        assert len(fixture.feed(messages)) == 1

    @pytest.mark.fault(6)
    def test_format_change_keeps_earlier_readings(self):
        fixture = SweepFixture()
        larger = np.zeros((6, 8, 3), np.uint8)
        for n in range(6):
            fixture.add((stamp(n), calibration(500.0, *((4, 3) if n < 3 else (8, 6)))))
            fixture.add(reading(n, 0.5 + n % 3, sweep=1 + n // 3, index=n % 3, count=3))
            stacks = fixture.add(frame(n) if n < 3 else replace(frame(n), image=larger))
        (stack,) = stacks
        assert (stack.sweep_id, stack.size) == (2, (6, 8))
        assert [plane.camera.width for plane in stack.planes] == [8, 8, 8]
        assert fixture.reasons == set()

    @pytest.mark.fault(8)
    def test_clock_jump_drops_future_messages(self):
        fixture = SweepFixture(min_size=2)
        fixture.feed(counted_sweep(1, 4, 100)[:6])
        stacks = fixture.feed(counted_sweep(1, 4, 0))
        assert [frames_of(s) for s in stacks] == [[0, 1, 2, 3]]
        assert fixture.rejected('clock_jump') == 1

    @pytest.mark.fault(8)
    @pytest.mark.parametrize('readings_first', [False, True])
    def test_looping_bag_loses_no_sweep(self, readings_first):
        fixture = SweepFixture(min_size=2)
        one_round = counted_sweep(1, 4, 0) + counted_sweep(2, 4, 4)
        if readings_first:
            one_round[::2], one_round[1::2] = one_round[1::2], one_round[::2]
        for _ in range(3):
            assert [frames_of(s) for s in fixture.feed(one_round)] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_future_stamp_costs_one_sweep_at_most(self):
        fixture = SweepFixture(min_size=2)
        fixture.feed(counted_sweep(1, 4, 0)[:4])
        fixture.add(frame(10**6))
        fixture.feed(counted_sweep(1, 4, 0)[4:])
        assert [frames_of(s) for s in fixture.feed(counted_sweep(2, 4, 4))] == [[4, 5, 6, 7]]

    def test_reset_forgets_the_sweep(self):
        fixture = SweepFixture()
        fixture.feed(counted_sweep(1, 4, 0)[:6])
        fixture.assembler.reset()
        assert fixture.assembler.progress is None
        assert fixture.feed(counted_sweep(1, 4, 0)[6:]) == []
        assert len(fixture.feed(counted_sweep(2, 4, 10))) == 1

    def test_new_size_applies_from_the_next_sweep(self):
        fixture = SweepFixture()
        fixture.feed(counted_sweep(1, 4, 0)[:4])
        fixture.assembler.settings = replace(fixture.assembler.settings, size=2)
        assert fixture.rejected('reconfigured') == 1
        assert [frames_of(s) for s in fixture.feed(counted_sweep(2, 4, 4))] == [[4, 5]]


@st.composite
def interleavings(draw):
    """Two sweeps; each topic in order, none ahead of another by the window."""
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
    """Three sweeps in one burst; each topic in order, any distance ahead of the others."""
    messages = [m for k in range(3) for m in counted_sweep(k + 1, 6, 6 * k)]
    topics = [messages[::2], messages[1::2], [(stamp(n), calibration()) for n in range(18)]]
    order = draw(st.permutations([0] * 18 + [1] * 18 + [2] * 18))
    streams = [iter(topic) for topic in topics]
    return [next(streams[topic]) for topic in order]


class TestOrder:
    @pytest.mark.parametrize('order', ['images first', 'readings first', 'calibrations last'])
    def test_three_sweeps_in_one_burst_are_complete(self, order):
        # Two seconds of one topic, four times the window, before the first message of the other.
        fixture = SweepFixture(window=0.5)
        messages = [m for k in range(3) for m in counted_sweep(k + 1, 8, 8 * k)]
        images, readings = messages[::2], messages[1::2]
        calibrations = [(stamp(n), calibration()) for n in range(24)]
        sequence = {
            'images first': images + readings + calibrations,
            'readings first': readings + images + calibrations,
            'calibrations last': messages + calibrations,
        }[order]
        stacks = fixture.feed(sequence)
        assert [frames_of(s) for s in stacks] == [
            list(range(first, first + 8)) for first in (0, 8, 16)
        ]
        assert fixture.reasons == set()

    @given(bursts(), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_burst_in_any_order_of_topics_loses_nothing(self, messages, calibrated):
        fixture = SweepFixture()
        if calibrated:
            fixture.add((stamp(-9), calibration()))
            fixture.add_frame(-9, 9.0, sweep=9, index=1, count=2)
        stacks = fixture.feed(messages)
        assert [frames_of(s) for s in stacks] == [
            list(range(first, first + 6)) for first in (0, 6, 12)
        ]
        assert fixture.reasons <= {'joined_midway'}
        if calibrated:
            assert all(plane.camera is not None for s in stacks for plane in s.planes)

    @pytest.mark.fault(3)
    @given(interleavings())
    @settings(max_examples=200, deadline=None)
    def test_interleaving_of_topics_changes_nothing(self, messages):
        fixture = SweepFixture()
        assert [frames_of(s) for s in fixture.feed(messages)] == [
            [0, 1, 2, 3, 4],
            [5, 6, 7, 8, 9],
        ]
        assert fixture.reasons == set()

    @pytest.mark.fault(3, 7)
    @given(st.permutations(counted_sweep(1, 6, 0)))
    @settings(max_examples=200, deadline=None)
    def test_order_within_a_sweep_changes_nothing(self, messages):
        fixture = SweepFixture(window=1.0)
        (stack,) = fixture.feed(messages)
        assert frames_of(stack) == [0, 1, 2, 3, 4, 5]
        np.testing.assert_allclose(stack.focus_dioptres, 0.5 + 0.25 * np.arange(6))

    @pytest.mark.fault(2, 7)
    @given(
        st.lists(
            st.tuples(
                st.integers(-3, 60),
                st.sampled_from(['frame', 'reading', 'camera', 'tick', 'reset']),
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
    def test_any_sequence_has_no_wrong_match_or_exception(self, events, sliding, moving, size):
        fixture = SweepFixture(sliding=sliding, accept_moving=moving, size=size, min_size=2)
        sent = {}
        stacks = []
        for n, kind, dioptres, state, sweep, index, count in events:
            when = stamp(n) if n >= 0 else 0
            if kind == 'frame':
                stacks += fixture.add(frame(n, stamp_ns=when))
            elif kind == 'reading':
                message = replace(reading(n, dioptres, state, sweep, index, count), stamp_ns=when)
                sent.setdefault(when, []).append(message)
                stacks += fixture.add(message)
            elif kind == 'camera':
                stacks += fixture.add((when, calibration()))
            elif kind == 'tick':
                stacks += fixture.assembler.tick(when)
            else:
                fixture.assembler.reset()
        for stack in stacks:
            numbers = frames_of(stack)
            assert numbers == sorted(set(numbers))
            for plane in stack.planes:
                assert plane.focus_dioptres in [r.dioptres for r in sent[plane.stamp_ns]]


def test_on_plane_gets_all_planes_but_the_last():
    seen = []
    assembler = SweepAssembler(AssemblerSettings(), StageCounter(), seen.append)
    stacks = []
    for n in range(3):
        stacks += assembler.add_frame(frame(n))
        stacks += assembler.add_reading(reading(n, 0.5 + n, index=n, count=3))
        if n < 2:
            assert [plane.focus_dioptres for plane in seen] == [0.5 + i for i in range(n + 1)]
    assert len(stacks) == 1 and len(seen) == 2
    # The same arrays, which key the cache of plane results.
    assert [plane.image is early.image for plane, early in zip(stacks[0].planes, seen)] == [
        True,
        True,
    ]


def test_counts_matched_frames_and_stacks():
    fixture = SweepFixture()
    fixture.feed(counted_sweep(1, 3, 0) + counted_sweep(2, 3, 3)[:2])
    counts = fixture.stage_counter.snapshot().counts
    assert (counts[Stage.MATCHED], counts[Stage.STACKED]) == (4, 1)


def test_memory_is_bounded_in_a_long_run():
    fixture = SweepFixture()
    for k in range(400):
        for message in counted_sweep(k, 5, 5 * k):
            fixture.add(message)
    assert fixture.assembler.progress is None and not fixture.assembler.in_progress
    assert fixture.assembler.pending_frames == 0
