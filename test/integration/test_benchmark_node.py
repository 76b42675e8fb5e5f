# SPDX-License-Identifier: Apache-2.0
"""The node part of ``dualfocus benchmark``: camera, depth node and receiver as processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dualfocus_ros.benchmark import node_latency as benchmark_node
from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig
from dualfocus_ros.benchmark.node_latency import NodeBenchmarkConfig, measure_node
from dualfocus_ros.benchmark.timed_methods import ComputeConfig
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane


class Noise:
    """Stands in for the rendered sweep."""

    def __init__(self, finest):
        self._rng = np.random.default_rng(finest)

    def stack(self, setting):
        width, height = setting.width, setting.height
        camera = PinholeCamera(width, height, 100.0, 100.0, width / 2, height / 2)
        return FocalStack(
            tuple(
                Plane(self._rng.integers(0, 255, (height, width, 3), np.uint8), 0.5 + n, 0, camera)
                for n in range(setting.planes)
            )
        )


class Bar:
    """A progress bar that nobody sees."""

    total = 0.0
    n = 0.0

    def update(self, n=1):
        self.n += n

    def set_description(self, desc=None):
        pass


def children():
    """Return the processes that this one has started and that still run."""
    tasks = Path(f'/proc/{os.getpid()}/task')
    return [pid for task in tasks.iterdir() for pid in (task / 'children').read_text().split()]


@pytest.mark.slow
def test_node_and_transport_are_measured_and_no_process_is_left(monkeypatch):
    monkeypatch.setattr(benchmark_node, 'Sweep', Noise)
    plan = BenchmarkConfig(['auto'], [3], [(96, 64)], 1.0, ComputeConfig('cpu', 'fp32', 1))
    # What the node would need by the same run: a quarter of a second, whatever the machine does.
    whole = {'planes': 3, 'width': 96, 'height': 64, 'total_ms': {'p50': 250.0}}
    method = {'name': 'x', 'cells': [whole], 'sliding': {'total_ms': {'p50': 150.0}}}
    report = {
        'base': {'planes': 3, 'width': 96, 'height': 64},
        'default_model': 'x',
        'methods': [method],
    }
    amount = NodeBenchmarkConfig(
        depths=2, images=8, rounds=1, modes=('sliding',), subscribers=('reliable',)
    )
    before, bar = children(), Bar()
    found = measure_node(plan, report, bar, amount)
    assert children() == before
    assert bar.n == bar.total
    (mode,) = found['modes']
    assert mode['mode'] == 'sliding' and mode['model'] and 'cpu' in mode['device']
    assert mode['depths'] >= 2 and mode['frames_sent'] >= 5
    assert 0.0 < mode['inference_ms']['p50'] < mode['latency_ms']['p50'] < 60e3
    assert mode['callbacks']['count'] > 5
    assert 0.0 < mode['callbacks']['busy'][0] <= mode['callbacks']['busy'][2]
    transport = found['transport']
    if 'fastrtps' not in transport['rmw']:
        assert transport['why_not'] and not transport['compared']
        return
    (entry,) = transport['compared']
    assert entry['reliability'] == 'reliable'
    assert entry['default']['sent'] == entry['ours']['sent'] == 8
    for side in (entry['default'], entry['ours']):
        assert 0.0 <= side['loss'] <= 1.0
    assert entry['ours']['received'] > 0
