# SPDX-License-Identifier: Apache-2.0
"""How often images come is told whatever they began with."""

import pytest

pytest.importorskip('rclpy')

from dualfocus_ros.nodes import arrival_statistics


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(arrival_statistics.time, 'monotonic', lambda: now[0])
    return now


def test_period_ignores_bursts_and_pauses(clock):
    arrivals = arrival_statistics.ArrivalStatistics()
    assert arrivals.age is None and arrivals.period is None
    # Two images that had waited for the node, then thirty a tenth of a second apart.
    for gap in (0.0, 0.001, *[0.1] * 30):
        clock[0] += gap
        arrivals.record()
    assert arrivals.period == pytest.approx(0.1)
    clock[0] += 60.0
    arrivals.record()
    assert arrivals.period == pytest.approx(0.1) and arrivals.age == 0.0
    # A camera that changes its rate is followed.
    for _ in range(15):
        clock[0] += 0.5
        arrivals.record()
    assert arrivals.period == pytest.approx(0.5)
