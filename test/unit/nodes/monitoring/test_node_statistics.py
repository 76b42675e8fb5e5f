# SPDX-License-Identifier: Apache-2.0
"""Durations of callbacks, period of images, lost and late images."""

import time

import pytest

from dualfocus_ros.nodes.monitoring import node_statistics
from dualfocus_ros.nodes.monitoring.node_statistics import (
    WINDOW,
    CallbackSummary,
    CallbackTimer,
    TransportMonitor,
)

PERIOD = 0.1


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


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(node_statistics.time, 'monotonic', lambda: now[0])
    return now


def test_period_ignores_bursts_and_pauses(clock):
    arrivals = node_statistics.ArrivalStatistics()
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


def summary_after(count, late=0.002, lost=(), infos=True, image_first=False):
    """Return the summary after ``count`` frames; the frames in ``lost`` have no image."""
    found = TransportMonitor()
    events = []
    for n in range(count):
        at = PERIOD * n
        if infos:
            events.append((at, found.info, n))
        if n not in lost:
            events.append((at - 0.001 if image_first else at + late, found.image, n))
    for at, event, stamp in sorted(events, key=lambda item: item[0]):
        event(stamp, at)
    return found.summary


def test_good_transport_has_no_problem():
    found = summary_after(60)
    assert found.lost == 0.0 and found.late == pytest.approx(0.002)
    assert found.problem is None


def test_image_before_its_info_is_not_late():
    found = summary_after(60, image_first=True)
    assert found.lost == 0.0 and found.late == 0.0 and found.problem is None


def test_lost_images_are_reported():
    found = summary_after(80, lost=range(0, 80, 4))
    # Images of the last second are still pending.
    assert found.lost == pytest.approx(0.25, abs=0.03)
    assert '% of the images are lost on the way' in found.problem
    assert 'fastdds_large_images.xml' in found.problem


def test_late_images_are_reported():
    found = summary_after(60, late=0.3)
    assert found.late == pytest.approx(0.3)
    assert 'images arrive 300 ms after their camera_info' in found.problem


def test_no_result_too_early_or_without_infos():
    assert summary_after(10) is None
    assert summary_after(60, infos=False) is None
    # Infos without images of the same stamp, such as those of a latched topic.
    assert summary_after(60, lost=range(60)) is None


def test_memory_is_bounded():
    found = TransportMonitor()
    for n in range(5000):
        found.image(n, 0.01 * n)
        found.info(-n, 0.01 * n)
    assert len(found._images) <= 100 and len(found._infos) <= 101 and len(found._pairs) <= 100
