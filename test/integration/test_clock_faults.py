# SPDX-License-Identifier: Apache-2.0
"""The depth node on simulated time that is silent, starts at zero, or jumps: as bags make it."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock

from depth_rig import MS, DepthRig, stamps_of

SECOND = 1000 * MS
PERIOD = 33 * MS


@pytest.fixture
def rig():
    rig = DepthRig(sim_time=True)
    rig.use_camera()
    rig.advertise('/clock', Clock)
    rig.listen('depth/image_rect')
    rig.ready()
    yield rig
    rig.close()


def tell(rig, now):
    """Publish the time and wait until the node has it."""
    seconds, rest = divmod(now, SECOND)
    rig.publish('/clock', Clock(clock=Time(sec=seconds, nanosec=rest)))
    rig.until(lambda: rig.node.get_clock().now().nanoseconds == now, f'for the time {now}')


def depths(rig, count):
    """Wait for so many depth images, and a little longer; return their stamps."""
    rig.until(lambda: len(rig.received['depth/image_rect']) >= count, f'for {count} depths')
    rig.spin(0.3)
    return stamps_of(rig.received['depth/image_rect'])


@pytest.mark.fault(9)
def test_silent_clock_is_reported_and_costs_no_depth(rig):
    # Everything is done by the stamps; only what waits too long is not ended.
    stamps = rig.sweep(start=100 * SECOND)
    assert depths(rig, 1) == [stamps[2]]
    rig.until(lambda: rig.status('clock')[0] == DiagnosticStatus.WARN)
    assert '/clock is silent' in rig.status('clock')[1]
    tell(rig, 100 * SECOND)
    tell(rig, 101 * SECOND)
    rig.until(lambda: rig.status('clock')[0] == DiagnosticStatus.OK)


@pytest.mark.fault(8)
def test_time_that_starts_at_zero(rig):
    tell(rig, 1)
    first = rig.sweep(start=PERIOD)
    assert depths(rig, 1) == [first[2]]
    tell(rig, 4 * PERIOD)
    second = rig.sweep(start=4 * PERIOD, sweep=2)
    assert depths(rig, 2) == [first[2], second[2]]


@pytest.mark.fault(8)
@pytest.mark.parametrize('target', [1000 * SECOND, 5 * SECOND, 99 * SECOND])
def test_clock_jump_resets_and_next_sweep_gives_depth(rig, target):
    tell(rig, 100 * SECOND)
    rig.sweep(start=100 * SECOND, last=2)  # of three
    rig.until(lambda: rig.node._input.progress is not None)
    tell(rig, target)
    assert rig.node._input.progress is None  # within the one message
    # Planes of the old sweep must not be published, not even as a partial stack.
    second = rig.sweep(start=target, sweep=2)
    assert depths(rig, 1) == [second[2]]
    third = rig.sweep(start=target + 3 * PERIOD, sweep=3)
    assert depths(rig, 2) == [second[2], third[2]]
    rig.until(lambda: rig.status('clock')[2].get('jumps') == '1')


@pytest.mark.fault(8)
def test_stack_in_inference_at_clock_jump_is_dropped(rig):
    tell(rig, 100 * SECOND)
    rig.estimator.gate.clear()
    rig.sweep(start=100 * SECOND)
    rig.until(lambda: not rig.node._worker.has_pending and not rig.node._input.in_progress)
    rig.spin(0.2)
    tell(rig, 5 * SECOND)
    rig.estimator.gate.set()
    new = rig.sweep(start=5 * SECOND, sweep=2)
    assert depths(rig, 1) == [new[2]]
