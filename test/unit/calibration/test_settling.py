# SPDX-License-Identifier: Apache-2.0
"""Latency, settling time and hysteresis."""

import itertools
import math

import numpy as np
import pytest

from dualfocus_ros.calibration.lens_tracking import (
    LensCommand,
    Thumbnail,
    commands_from_reports,
)
from dualfocus_ros.calibration.settling import measure_settling
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


class TestSettling:
    """Images on a curve over focus, and a first-order lens."""

    planes = (0.0, 0.5, 1.0, 1.5, 2.0)

    def scene(self, focus):
        rng = np.random.default_rng(0)
        a, b, c = rng.normal(0.0, 1.0, (3, 400))
        return (3.0 + a * focus + 0.4 * b * focus**2 + 0.3 * c * np.sin(2 * focus)).astype(
            np.float32
        )

    def record(
        self,
        constant=0.03,
        latency=0.02,
        dwell=0.4,
        sweeps=4,
        rate=60.0,
        off=0.0,
        noise=0.003,
        planes=planes,
        report=None,
    ):
        rng = np.random.default_rng(5)
        order = [q for n in range(sweeps) for q in (planes if n % 2 == 0 else planes[::-1])]
        commands, thumbnails, time, here = [], [], 100.0, order[0]
        previous = order[0]
        for target in order:
            command = time + rng.uniform(0.0, 1.0 / rate)
            commands.append(LensCommand(round(command * 1e9), target))
            goal = target + (off if target > previous else 0.0)
            start, previous = here, target
            for _ in range(round(dwell * rate)):
                moved = max(time - command - latency, 0.0)
                here = goal + (start - goal) * math.exp(-moved / constant)
                values = self.scene(here) + rng.normal(0, noise, 400).astype(np.float32)
                reported = math.nan
                if report == 'echo':
                    reported = (
                        target
                        if time > command
                        else commands[-2].dioptres
                        if len(commands) > 1
                        else math.nan
                    )
                thumbnails.append(Thumbnail(round(time * 1e9), values, reported))
                time += 1.0 / rate
        return commands, thumbnails

    def test_time_and_latency_without_hysteresis(self):
        found = measure_settling(*self.record())
        truth = 0.02 + 0.03 * math.log(50.0)
        assert found.settling_time == pytest.approx(truth, rel=0.03)
        # 10 % of the step end 3 ms after the latency; the frame period is 17 ms.
        assert found.latency_frames == 2
        assert found.settle_time == found.settling_time and not found.reported
        assert found.model_time > truth + 1.0 / 60.0
        assert abs(found.hysteresis) < 0.005

    def test_hysteresis(self):
        found = measure_settling(*self.record(off=0.06))
        assert found.hysteresis == pytest.approx(0.06, abs=0.01)
        assert found.hysteresis > 5.0 * found.hysteresis_error

    def test_report_that_repeats_the_command_is_revealed(self):
        commands, thumbnails = self.record(report='echo')
        found = measure_settling(commands, thumbnails)
        assert found.reported and 8 <= found.settle_frames <= 10
        from_reports = commands_from_reports(thumbnails)
        assert [c.dioptres for c in from_reports] == [
            b.dioptres for a, b in itertools.pairwise(commands) if a.dioptres != b.dioptres
        ]
        again = measure_settling(from_reports, thumbnails)
        # Starts at the first frame with the report, half a frame later on average.
        assert again.settling_time == pytest.approx(found.settling_time - 0.008, abs=0.006)

    def test_lens_faster_than_the_frame_rate(self):
        found = measure_settling(*self.record(constant=1e-4, latency=0.0, rate=30.0))
        assert found.curve == () and found.settling_time <= 1.01 / 30.0
        assert found.latency_frames <= 1

    def test_refusals(self):
        with refuses('3 whole steps'):
            measure_settling(*self.record(sweeps=1, planes=(0.0, 0.5, 1.0, 1.5)))
        with refuses('3 different positions'):
            measure_settling(*self.record(planes=(0.0, 1.0, 2.0)))
        with refuses('fewer than 5 frames'):
            measure_settling(*self.record(dwell=0.05))
        with refuses('still moving'):
            measure_settling(*self.record(constant=0.3, noise=0.0005))
        with refuses('the images at rest still differ'):
            measure_settling(*self.record(noise=3.0))
        commands, thumbnails = self.record()
        mirrored = [
            Thumbnail(t.stamp_ns, self.scene(abs(1.0 - 0.02)).astype(np.float32))
            for t in thumbnails
        ]
        with refuses('determine the focus|the images at rest still differ'):
            measure_settling(commands, mirrored)
