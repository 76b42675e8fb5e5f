# SPDX-License-Identifier: Apache-2.0
"""Pictures and metrics of the demo."""

import cv2
import numpy as np

from demo_messages import SECOND, feed, info_cdr
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.demo.collector import DemoCollector
from dualfocus_ros.demo.demo_report import compute_metrics, format_summary, write_pictures


def test_pictures_show_the_newest_complete_depth(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        assert collector.example() is None
        feed(collector, SECOND, 1.0)
        feed(collector, 2 * SECOND, 1.05)
        collector('/stack_info', info_cdr(9 * SECOND, [8 * SECOND, 9 * SECOND]), 9 * SECOND)
    example = collector.example()
    assert example is not None
    assert len(example.planes) == len(example.focus_dioptres) == 3
    assert np.allclose(example.depth, 1.05 * example.truth)
    write_pictures(tmp_path, example, compute_metrics(collector, 1.0), 'table')
    assert cv2.imread(str(tmp_path / 'panel.png')).shape[1] == 1600
    assert b'element vertex 3072' in (tmp_path / 'cloud.ply').read_bytes()


def test_metrics_without_depth_are_unknown(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        measured = compute_metrics(DemoCollector(bag), seconds=1.0)
    assert measured['abs_rel'] is None and measured['latency_ms'] is None
    assert measured['depth_rate_hz'] is None
    assert 'unknown' in format_summary(measured, 'table')
