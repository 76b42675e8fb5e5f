# SPDX-License-Identifier: Apache-2.0
"""Age and period of arriving images."""

import pytest

pytest.importorskip('rclpy')

from dualfocus_ros.nodes.inputs import arrival_statistics


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(arrival_statistics.time, 'monotonic', lambda: now[0])
    return now


def test_period_ignores_bursts_and_pauses(clock):
    arrivals = arrival_statistics.ArrivalStatistics()
    assert arrivals.age is None and arrivals.period is None
    # Two images queued before the start, then thirty at 10 Hz.
    for gap in (0.0, 0.001, *[0.1] * 30):
        clock[0] += gap
        arrivals.record()
    assert arrivals.period == pytest.approx(0.1)
    clock[0] += 60.0
    arrivals.record()
    assert arrivals.period == pytest.approx(0.1) and arrivals.age == 0.0
    # The period follows a change of the camera's rate.
    for _ in range(15):
        clock[0] += 0.5
        arrivals.record()
    assert arrivals.period == pytest.approx(0.5)
