# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing; no time is asserted."""

from collections import Counter

import pytest

from dualfocus_ros.benchmark.timing import (
    MAX_REPEATS,
    MIN_REPEATS,
    TimingSample,
    interleave,
    measure_interleaved,
    percentiles,
    repeats_within,
    summarize,
)


def test_turns_are_spread_evenly():
    order = interleave({'slow': 3, 'fast': 12})
    assert Counter(order) == {'slow': 3, 'fast': 12}
    thirds = [order[:5], order[5:10], order[10:]]
    assert all(part.count('slow') == 1 for part in thirds)


def test_repeats_fit_the_budget():
    assert repeats_within(10.0, 1.0) == 10
    assert repeats_within(1.0, 100.0) == MIN_REPEATS
    assert repeats_within(1.0, 1e-9) == repeats_within(1.0, 0.0) == MAX_REPEATS


def test_warm_up_runs_are_not_counted():
    times = iter([1500.0, *range(100)])
    expected_extent, done = [], []
    samples = measure_interleaved(
        {'a': lambda: TimingSample(next(times), {'stage': 1.0})},
        6.0,
        expected_extent.append,
        done.append,
    )
    # Four times in two turns, before each of which it runs once more.
    assert [s.total_ms for s in samples['a']] == [1.0, 2.0, 4.0, 5.0]
    assert (expected_extent, sum(done)) == ([6], 7)


def test_each_turn_warms_up():
    ran = []

    def task(name):
        return lambda: ran.append(name) or TimingSample(1000.0, {})

    samples = measure_interleaved({name: task(name) for name in 'ab'}, 4.0)
    assert ''.join(ran) == 'ab' + 2 * 'aaabbb'
    assert [len(found) for found in samples.values()] == [4, 4]


def test_percentiles_of_runs_and_stages():
    samples = [
        TimingSample(float(n), {'decode': 2.0 * n, **({'rare': 7.0} if n == 3 else {})})
        for n in range(11)
    ]
    assert summarize(samples) == {
        'total_ms': {'p10': 1.0, 'p50': 5.0, 'p90': 9.0, 'repeats': 11},
        'stages': {
            'decode': {'p10': 2.0, 'p50': 10.0, 'p90': 18.0, 'repeats': 11},
            'rare': {'p10': 7.0, 'p50': 7.0, 'p90': 7.0, 'repeats': 1},
        },
    }
    with pytest.raises(ValueError, match='no run'):
        percentiles([])
