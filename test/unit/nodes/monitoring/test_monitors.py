# SPDX-License-Identifier: Apache-2.0
"""Warnings about a depth range beyond that of the lens."""

from dataclasses import replace

import pytest

pytest.importorskip('diagnostic_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticStatus

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.nodes.monitoring.diagnostics import optics_status
from dualfocus_ros.nodes.monitoring.monitors import RangeMonitor

# 10 px per dioptre limit the range to 5 m.
SETTINGS = EstimatorSettings(kappa=10.0, depth_max=20.0)


def test_warns_once_for_many_stacks():
    monitor = RangeMonitor()
    first = monitor.check(SETTINGS, 0.1)
    assert '10 px of blur per dioptre' in first
    assert '5.00 m' in first and '10.00 m' in first
    assert [monitor.check(SETTINGS, 0.1 + 0.001 * n) for n in range(5)] == [None] * 5


def test_warns_again_for_larger_range_or_other_lens():
    monitor = RangeMonitor()
    assert monitor.check(SETTINGS, 0.15) is not None
    assert monitor.check(SETTINGS, 0.0) is not None
    assert monitor.check(SETTINGS, 0.15) is None
    assert monitor.check(replace(SETTINGS, kappa=5.0), 0.0) is not None


def test_no_warning_within_range_or_without_lens():
    monitor = RangeMonitor()
    assert monitor.check(SETTINGS, 0.25) is None
    assert monitor.check(replace(SETTINGS, depth_max=4.9), 0.0) is None
    assert monitor.check(EstimatorSettings(), 0.0) is None
    assert monitor.check(EstimatorSettings(lens=Lens(0.016, 1.4, 1.125e-5)), 0.15) is None


def test_diagnostics_keep_the_warning():
    monitor = RangeMonitor()
    assert optics_status(monitor.last).level == DiagnosticStatus.OK
    for _ in range(2):
        monitor.check(SETTINGS, 0.1)
        status = optics_status(monitor.last)
        assert status.level == DiagnosticStatus.WARN
        values = {v.key: v.value for v in status.values}
        assert values['range limit [m]'] == '5.00'
        assert values['range asked for [m]'] == '10.00'
        assert values['sigma at least [1/m]'] == '0.0200'
    monitor.check(SETTINGS, 0.3)
    assert optics_status(monitor.last).level == DiagnosticStatus.OK
    monitor.check(EstimatorSettings(), 0.3)
    assert 'not known' in optics_status(monitor.last).message
