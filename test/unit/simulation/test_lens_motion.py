# SPDX-License-Identifier: Apache-2.0
"""Motion of the focus actuator."""

import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.simulation.lens_motion import LensMotion


class TestLensMotion:
    def test_starts_after_the_latency_and_settles_in_time(self):
        motion = LensMotion(PlaneTarget(0.0), settling_time=0.2, latency=0.05)
        # The lens locks within 0.01 dioptres, 2 % of this step.
        motion.command(PlaneTarget(0.5, sweep_id=7), 10.0)
        before = motion.at(10.04)
        assert before.dioptres == 0.0 and not before.moving and before.sweep_id == 0
        during = motion.at(10.1)
        assert 0.0 < during.dioptres < 0.5 and during.moving and during.sweep_id == 7
        assert motion.at(10.05 + 0.19).moving
        after = motion.at(10.05 + 0.21)
        assert after.dioptres == 0.5 and not after.moving

    def test_moves_monotonically_without_overshoot(self):
        motion = LensMotion(PlaneTarget(2.0), settling_time=0.3, latency=0.0)
        motion.command(PlaneTarget(0.5), 0.0)
        path = [motion.at(t).dioptres for t in np.arange(0.0, 0.6, 0.01)]
        assert np.all(np.diff(path) <= 0.0) and path[-1] == 0.5

    def test_new_command_keeps_position_and_speed(self):
        motion = LensMotion(PlaneTarget(0.0), settling_time=0.3, latency=0.0)
        motion.command(PlaneTarget(1.0), 0.0)
        first = [motion.at(t).dioptres for t in (0.098, 0.1)]
        motion.command(PlaneTarget(0.0), 0.1)
        second = [motion.at(t).dioptres for t in (0.1, 0.102)]
        assert second[0] == pytest.approx(first[1], abs=1e-9)
        assert second[1] - second[0] == pytest.approx(first[1] - first[0], rel=0.15)
        assert motion.at(1.0).dioptres == 0.0

    def test_zero_settling_time_moves_immediately(self):
        motion = LensMotion(PlaneTarget(0.0), settling_time=0.0, latency=0.0)
        motion.command(PlaneTarget(1.5), 1.0)
        reading = motion.at(1.0)
        assert reading.dioptres == 1.5 and not reading.moving

    def test_clock_may_jump_back(self):
        motion = LensMotion(PlaneTarget(0.0), settling_time=0.1, latency=0.02)
        motion.command(PlaneTarget(1.0), 1000.0)
        motion.at(1000.05)
        motion.at(3.0)
        assert motion.at(3.2).dioptres == 1.0
        motion.command(PlaneTarget(2.0), 3.2)
        assert motion.at(3.6).dioptres == 2.0

    def test_negative_times_raise(self):
        with pytest.raises(ValueError, match='negative'):
            LensMotion(PlaneTarget(0.0), settling_time=-1.0)
