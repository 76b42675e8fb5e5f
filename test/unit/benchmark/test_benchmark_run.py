# SPDX-License-Identifier: Apache-2.0
"""Benchmark with methods of known times."""

import json

import numpy as np
import pytest

from benchmark_fakes import CountingProgress, FakeMethod, RandomStacks, use_fake_methods
from dualfocus_ros.benchmark import benchmark_run, machine_info
from dualfocus_ros.benchmark.benchmark_report import as_markdown
from dualfocus_ros.benchmark.benchmark_run import (
    BenchmarkConfig,
    inverse_depth_change,
    run_benchmark,
)
from dualfocus_ros.benchmark.benchmark_stacks import StackShape
from dualfocus_ros.benchmark.method_timing import ComputeConfig, method_names
from dualfocus_ros.evaluation.tables import to_json
from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.models.weights import shipped_models


@pytest.fixture
def fakes(monkeypatch):
    """Every name opens a method with a known time."""
    use_fake_methods(monkeypatch)


def test_depth_change_is_in_dioptres():
    depth = np.array([1.0, 2.0, np.nan, np.inf])
    other = np.array([1.0, 4.0, 1.0, np.inf])
    change = inverse_depth_change(depth, other)
    assert change['median_dioptres'] == pytest.approx(0.125)
    assert change['max_dioptres'] == pytest.approx(0.25)
    assert change['validity_changed'] == pytest.approx(0.25)
    nothing = inverse_depth_change(np.array([np.nan]), np.array([1.0]))
    assert json.loads(to_json(nothing))['max_dioptres'] is None


def test_shapes_are_a_cross_through_the_base():
    config = BenchmarkConfig(
        ['sml'], [2, 5, 20], [(320, 240), (640, 480), (1280, 960)], 1.0, ComputeConfig('cpu')
    )
    assert config.base == StackShape(5, 640, 480)
    assert config.shapes == [
        StackShape(5, 640, 480),
        StackShape(2, 640, 480),
        StackShape(20, 640, 480),
        StackShape(5, 320, 240),
        StackShape(5, 1280, 960),
    ]
    other = BenchmarkConfig(['sml'], [3, 4], [(64, 48), (96, 64)], 1.0, ComputeConfig('cpu'))
    assert other.base == StackShape(4, 96, 64)


def test_every_method_is_in_every_table(fakes):
    names = method_names()
    config = BenchmarkConfig(
        names, [2, 3, 4], [(64, 48), (128, 96)], 1e-6, ComputeConfig('cpu', threads=1)
    )
    progress = CountingProgress()
    found = run_benchmark(config, progress, RandomStacks())
    assert progress.n == progress.total
    assert {*shipped_models(), 'dfv', 'sml', 'rdf'} <= set(names)
    assert [method['name'] for method in found['methods']] == names
    for method in found['methods']:
        assert len(method['cells']) == 4, 'three numbers of planes, one more size'
        for at in method['cells']:
            ms = (1.0 + len(method['name'])) * at['planes'] * at['width'] * at['height'] / 1e3
            assert at['total_ms']['p50'] == pytest.approx(ms, rel=1e-3)
    text = as_markdown(found)
    for name in names:
        assert text.count(f'| {name} |') >= 3, 'side by side, by planes and by size'
    assert json.loads(to_json(found))['machine'] == machine_info.describe_machine()


def test_rejects_two_methods_of_one_name(fakes, monkeypatch):
    monkeypatch.setattr(benchmark_run, 'open_timed_method', lambda name, _: FakeMethod('one', 1.0))
    config = BenchmarkConfig(['auto', 'one'], [2], [(64, 48)], 1e-6, ComputeConfig('cpu'))
    with pytest.raises(ValueError, match="'auto' and 'one' are both called 'one'"):
        run_benchmark(config, stacks=RandomStacks())


def test_runs_from_python_without_progress(fakes):
    compute = ComputeConfig('cpu', threads=1)
    config = BenchmarkConfig(['a', 'a'], [2], [(64, 48)], 1e-6, compute)
    report = run_benchmark(config, stacks=RandomStacks())
    assert [method['name'] for method in report['methods']] == ['a']


def test_rejects_values_in_the_words_of_the_caller():
    with pytest.raises(ConfigError, match=r'^planes: a stack has 2 to 32 planes, got 1'):
        BenchmarkConfig(planes=[1])
    with pytest.raises(ConfigError, match=r'^seconds must be positive, got 0'):
        BenchmarkConfig(seconds=0.0)
    with pytest.raises(ConfigError, match=r'^threads must not be negative, got -1'):
        ComputeConfig(threads=-1)
