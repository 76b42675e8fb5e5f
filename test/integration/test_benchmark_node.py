# SPDX-License-Identifier: Apache-2.0
"""Node part of ``dualfocus benchmark``: camera, depth node and receiver as processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark_fakes import CountingProgress, RandomStacks
from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig
from dualfocus_ros.benchmark.method_timing import ComputeConfig
from dualfocus_ros.benchmark.node_latency import NodeBenchmarkConfig, measure_node


def children():
    """Return the running child processes of this process."""
    tasks = Path(f'/proc/{os.getpid()}/task')
    return [pid for task in tasks.iterdir() for pid in (task / 'children').read_text().split()]


@pytest.mark.slow
def test_measures_node_and_transport():
    config = BenchmarkConfig(['auto'], [3], [(96, 64)], 1.0, ComputeConfig('cpu', 'fp32', 1))
    # Time of the node in the same run: a quarter of a second, independent of the machine.
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
    before, progress = children(), CountingProgress()
    found = measure_node(config, report, progress, amount, RandomStacks())
    assert children() == before
    assert progress.n == progress.total
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
