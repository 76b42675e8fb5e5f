# SPDX-License-Identifier: Apache-2.0
"""Checks of the endurance runs: they detect their faults, and nothing else."""

from pathlib import Path
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from dualfocus_ros.msg import FocusState, StackInfo
from dualfocus_ros.stamps import to_stamp

sys.path.insert(0, str(Path(__file__).parents[1] / 'endurance'))
import kill
import node_fleet
import soak
from trend import trend

PERIOD = 100_000_000
START = 1_700_000_000 * 10**9
PLANES = 3


def noise(seed, count=120, memory=0.8):
    """Return noise in which neighbours resemble each other, as the memory of a process does."""
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    for n in range(1, count):
        values[n] = memory * values[n - 1] + rng.normal()
    return values


SECONDS = np.arange(120) * 5.0


@pytest.mark.fault(22)
def test_finds_the_slope_of_a_trend():
    found = trend(SECONDS, 400.0 + 60.0 / 3600.0 * SECONDS + 0.1 * noise(1))
    assert found.slope == pytest.approx(60.0, abs=4.0 * found.error)
    assert found.error < 10.0
    assert found.rises_beyond(20.0) and not found.rises_beyond(100.0)


def test_falling_series_are_accepted():
    found = trend(SECONDS, 400.0 - 60.0 / 3600.0 * SECONDS + 0.1 * noise(1))
    assert found.significant and not found.rises_beyond(20.0)


@pytest.mark.fault(22)
def test_correlated_noise_is_rarely_a_trend():
    alarms = sum(trend(SECONDS, 400.0 + noise(seed)).significant for seed in range(200))
    # As if the samples were independent there would be about 60.
    assert alarms <= 8


def test_constant_series_and_gaps_have_no_trend():
    assert trend(SECONDS, np.full(120, 400.0)).slope == 0.0
    values = 400.0 + 60.0 / 3600.0 * SECONDS
    values[::7] = np.nan
    assert trend(SECONDS, values).slope == pytest.approx(60.0)
    with pytest.raises(ValueError, match='at least 8 samples, got 6'):
        trend(SECONDS[:7], values[:7])


class Record(SimpleNamespace):
    """What an observer has heard of some sweeps of three planes, one frame each."""

    def __init__(self, numbers):
        super().__init__(states=[], images=set(), infos=set(), depths=[], received=[])
        for n, number in enumerate(numbers):
            for index in range(PLANES):
                stamp = self.stamp(n, index)
                state = FocusState(
                    state=FocusState.SETTLED,
                    sweep_id=number,
                    plane_index=index,
                    plane_count=PLANES,
                )
                state.header.stamp = to_stamp(stamp)
                self.states.append(state)
                self.images.add(stamp)
                self.infos.add(stamp)
            stamps = [to_stamp(self.stamp(n, index)) for index in range(PLANES)]
            self.depths.append((0.0, StackInfo(sweep_id=number, stamps=stamps)))

    @staticmethod
    def stamp(n, index):
        return START + (n * PLANES + index) * PERIOD

    def sweeps(self):
        return node_fleet.Observer.sweeps(self)

    def forget_before(self, stamp):
        node_fleet.Observer.forget_before(self, stamp)


def kill_at(stamp):
    return kill.Kill('sim_camera_node', kill.signal.SIGKILL, stamp, stamp)


def test_sweeps_without_a_kill_must_give_their_depth():
    record = Record([1, 2, 3, 4, 5])
    assert [j.wrong for j in kill.judge(record, [])] == [False] * 3
    del record.depths[2]
    judged = kill.judge(record, [])
    assert [j.wrong for j in judged] == [False, True, False]
    # A kill in the sweep before does not excuse it; one in its own span does.
    assert kill.judge(record, [kill_at(record.stamp(1, 1))])[1].wrong
    for stamp in (record.stamp(1, 2) + 1, record.stamp(2, 1), record.stamp(3, 0) - 1):
        assert not kill.judge(record, [kill_at(stamp)])[1].wrong


def test_camera_kill_lasts_until_images_return():
    record = Record(range(1, 40))
    camera = kill_at(record.stamp(2, 1))
    sweep = kill.Kill('focus_sweep_node', kill.signal.SIGKILL, camera.stamp, camera.stamp)
    # Diagnostics once a second: nothing for two seconds, images from the fourth on.
    record.received = [
        (camera.stamp + n * 10**9, count) for n, count in ((0, 5), (1, 6), (2, 6), (3, 6), (4, 9))
    ]
    spans = {
        k.target: [n for n, j in enumerate(kill.judge(record, [k]), 1) if j.kills]
        for k in (camera, sweep)
    }
    assert spans['focus_sweep_node'] == [2]
    # 4 s are 40 frames, from frame 7 to frame 47: sweeps 2 to 15.
    assert spans['sim_camera_node'] == list(range(2, 16))


def test_flagged_or_double_depth_is_not_a_whole_sweep():
    record = Record([1, 2, 3])
    record.depths[1][1].flags = StackInfo.FLAG_PARTIAL
    assert kill.judge(record, [])[0].wrong
    record = Record([1, 2, 3])
    record.depths.append(record.depths[1])
    assert kill.judge(record, [])[0].wrong
    record = Record([1, 2, 3])
    record.images.remove(record.stamp(1, 1))
    assert kill.judge(record, [])[0].wrong


def test_restarted_numbering_makes_new_sweeps():
    assert [s.number for s in Record([6, 7, 1, 1, 2]).sweeps()] == [6, 7, 1, 1, 2]


@pytest.mark.fault(22)
def test_counter_counts_losses_and_drops_the_rest():
    record = Record(range(1, 401))
    del record.depths[100:103]
    record.depths[200][1].flags = StackInfo.FLAG_PLANE_MISSING
    counter = soak.SweepCounter(record)
    counter.settle()
    assert len(record.states) < 300 and len(record.depths) < 100
    counter.settle(everything=True)
    # All but the first two and the last.
    assert counter.counts == soak.Counts(expected=397, got=393, partial=1)
