# SPDX-License-Identifier: Apache-2.0
"""Durations of callbacks and their round trip through the diagnostics."""

import time

import pytest

from dualfocus_ros.nodes.monitoring.callback_times import WINDOW, CallbackSummary, CallbackTimer


def test_timed_callback_keeps_result_and_exception():
    times = CallbackTimer()
    assert times.summary() is None
    assert times.timed(lambda a, b=1: a + b)(2, b=3) == 5

    def fails():
        raise ValueError('as ever')

    with pytest.raises(ValueError, match='as ever'):
        times.timed(fails)()
    assert times.summary().count == 2, 'one that fails took its time too'


def test_sleep_counts_as_wall_time_only():
    times = CallbackTimer()
    times.timed(time.sleep)(0.05)
    summary = times.summary()
    assert summary.elapsed[2] >= 50.0
    assert summary.busy[2] < 0.5 * summary.elapsed[2]


def test_summary_covers_the_newest_callbacks():
    times = CallbackTimer()
    times.timed(time.sleep)(0.02)
    for _ in range(WINDOW):
        times.timed(lambda: None)()
    summary = times.summary()
    assert summary.count == WINDOW
    assert list(summary.elapsed) == sorted(summary.elapsed)
    # The long callback has left the window; the others take almost no time.
    assert summary.elapsed[0] < 1.0


def test_summary_round_trip_through_diagnostics():
    summary = CallbackSummary(12, (0.125, 0.5, 1.5), (0.25, 0.75, 2.5))
    assert CallbackSummary.from_values({**summary.values(), 'image age [s]': '0.1'}) == summary
    assert CallbackSummary.from_values({'image age [s]': '0.1'}) is None
