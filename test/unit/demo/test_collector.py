# SPDX-License-Identifier: Apache-2.0
"""Collector of the demo: decoding, matching by stamp, start of the measurement."""

import json

import numpy as np
import pytest

from demo_messages import SECOND, cloud_cdr, feed, image_cdr
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.demo.collector import DemoCollector, decode_cloud, decode_image
from dualfocus_ros.demo.demo_report import compute_metrics, format_summary


def test_images_of_each_encoding_and_clouds_are_decoded():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(decode_image(image_cdr(1, rgb)), rgb)
    assert np.array_equal(decode_image(image_cdr(1, rgb[..., 0])), rgb[..., 0])
    metres = np.array([[1.5, np.nan]], np.float32)
    assert np.array_equal(decode_image(image_cdr(1, metres, '32FC1')), metres, equal_nan=True)
    millimetres = np.array([[1500, 0]], np.uint16)
    assert np.array_equal(decode_image(image_cdr(1, millimetres, '16UC1')), metres, equal_nan=True)
    with pytest.raises(ValueError, match='encoding 64FC1'):
        decode_image(image_cdr(1, metres, '64FC1'))
    points = np.random.default_rng(1).random((3, 2, 4), np.float32)
    assert np.array_equal(decode_cloud(cloud_cdr(1, points)), points)


def test_depth_is_compared_with_the_truth_of_its_stamp(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        for n in range(5):
            feed(collector, n * SECOND, 1.1)
        # Depth without ground truth.
        collector(
            '/depth/image_rect',
            image_cdr(99 * SECOND, np.ones((48, 64), np.float32), '32FC1'),
            100 * SECOND,
        )
        collector.finish()
    measured = compute_metrics(collector, seconds=5.0)
    assert (measured['depths'], measured['compared']) == (6, 5)
    assert measured['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert measured['rmse_m'] == pytest.approx(np.sqrt((0.125**2 + 0.08**2) / 2), rel=1e-3)
    assert (measured['delta1'], measured['valid']) == (1.0, 1.0)
    assert measured['image_rate_hz'] == 3.0
    assert measured['latency_ms']['p50'] == 60.0
    assert measured['receipt_latency_ms'] == {'p50': 70.0, 'p90': 70.0, 'p99': 70.0, 'max': 70.0}
    assert (measured['planes'], measured['model']) == (3, 'small')
    json.dumps(measured)
    text = format_summary(measured, 'table')
    assert 'AbsRel 0.1000' in text and 'p90 60 ms' in text
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.topics['/ground_truth/depth'].count == 5


def test_measuring_starts_with_the_first_complete_sweep(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        assert not collector.start_measuring()
        feed(collector, SECOND, 2.0, flags=8)
        assert not collector.start_measuring()
        feed(collector, 2 * SECOND, 1.0)
        assert collector.start_measuring()
        feed(collector, 3 * SECOND, 1.2, flags=1)  # flagged sweeps count from here on
        measured = compute_metrics(collector, seconds=1.0)
    assert (measured['depths'], measured['flagged']) == (2, 1)
    assert measured['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert [row['flags'] for row in measured['each']] == [0, 1]
