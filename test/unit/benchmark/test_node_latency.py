# SPDX-License-Identifier: Apache-2.0
"""Frame rate and transport comparison of the node benchmark."""

import pytest

from benchmark_fakes import cell, make_report, model_report
from dualfocus_ros.benchmark.node_latency import camera_rate, compare_transports


def test_frame_rate_leaves_time_to_the_node():
    sweep, sliding = (camera_rate(make_report(), mode, 5) for mode in ('sweep', 'sliding'))
    assert sweep < 1e3 / (120 / 5) and sliding < 1e3 / 54
    fast = make_report(methods=[model_report(cells=[cell(1.0)])])
    assert camera_rate(fast, 'sweep', 5) == 30.0


def test_speed_up_needs_most_images_received():
    sent = {False: 4, True: 4}
    found = compare_transports('reliable', {False: [12.0] * 4, True: [3.0] * 4}, sent)
    assert found['speed_up'] == pytest.approx(4.0)
    assert found['default']['loss'] == found['ours']['loss'] == 0.0
    lossy = compare_transports('best_effort', {False: [2.0], True: [3.0] * 4}, sent)
    assert lossy['default']['loss'] == pytest.approx(0.75)
    assert lossy['speed_up'] is None, 'the median of the few that came says nothing'
    nothing = compare_transports('best_effort', {False: [], True: [3.0]}, sent)
    assert nothing['default']['delay_ms'] is None
