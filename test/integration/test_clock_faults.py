# SPDX-License-Identifier: Apache-2.0
"""Depth node with simulated time that is silent, starts at zero, or jumps."""

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from rosgraph_msgs.msg import Clock

from depth_node_harness import MS, stamps_of

SECOND = 1000 * MS
PERIOD = 33 * MS


@pytest.fixture
def harness(connect):
    return connect(
        'depth/image_rect',
        inputs=('image_raw', 'camera_info', 'focus_state', '/clock'),
        sim_time=True,
    )


def publish_time(harness, now):
    """Publish the time and wait until the node has it."""
    seconds, rest = divmod(now, SECOND)
    harness.publish('/clock', Clock(clock=Time(sec=seconds, nanosec=rest)))
    harness.until(
        lambda: harness.depth_node.get_clock().now().nanoseconds == now, f'for the time {now}'
    )


def depths(harness, count):
    """Wait for so many depth images, and a little longer; return their stamps."""
    harness.until(lambda: len(harness.depths) >= count, f'for {count} depths')
    harness.spin(0.3)
    return stamps_of(harness.depths)


@pytest.mark.fault(9)
def test_silent_clock_is_reported_and_costs_no_depth(harness):
    # Everything is done by the stamps; only what waits too long is not ended.
    stamps = harness.sweep(start=100 * SECOND)
    assert depths(harness, 1) == [stamps[2]]
    harness.until(lambda: harness.status('clock')[0] == DiagnosticStatus.WARN)
    assert '/clock is silent' in harness.status('clock')[1]
    publish_time(harness, 100 * SECOND)
    publish_time(harness, 101 * SECOND)
    harness.until(lambda: harness.status('clock')[0] == DiagnosticStatus.OK)


@pytest.mark.fault(8)
def test_time_that_starts_at_zero(harness):
    publish_time(harness, 1)
    first = harness.sweep(start=PERIOD)
    assert depths(harness, 1) == [first[2]]
    publish_time(harness, 4 * PERIOD)
    second = harness.sweep(start=4 * PERIOD, sweep=2)
    assert depths(harness, 2) == [first[2], second[2]]


@pytest.mark.fault(8)
@pytest.mark.parametrize('target', [1000 * SECOND, 5 * SECOND, 99 * SECOND])
def test_clock_jump_resets_and_next_sweep_gives_depth(harness, target):
    publish_time(harness, 100 * SECOND)
    harness.sweep(start=100 * SECOND, last=2)  # of three
    harness.until(lambda: harness.input.progress is not None)
    publish_time(harness, target)
    assert harness.input.progress is None  # within the one message
    # Planes of the old sweep must not be published, not even as a partial stack.
    second = harness.sweep(start=target, sweep=2)
    assert depths(harness, 1) == [second[2]]
    third = harness.sweep(start=target + 3 * PERIOD, sweep=3)
    assert depths(harness, 2) == [second[2], third[2]]
    harness.until(lambda: harness.status('clock')[2].get('jumps') == '1')


@pytest.mark.fault(8)
def test_stack_in_inference_at_clock_jump_is_dropped(harness):
    publish_time(harness, 100 * SECOND)
    harness.estimator.gate.clear()
    harness.sweep(start=100 * SECOND)
    harness.until(lambda: not harness.worker.has_pending and not harness.input.in_progress)
    harness.spin(0.2)
    publish_time(harness, 5 * SECOND)
    harness.estimator.gate.set()
    new = harness.sweep(start=5 * SECOND, sweep=2)
    assert depths(harness, 1) == [new[2]]
