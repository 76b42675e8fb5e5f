# SPDX-License-Identifier: Apache-2.0
"""Measurement in a separate process."""

import pytest

from benchmark_fakes import RandomStacks
from dualfocus_ros.benchmark.benchmark_stacks import StackShape, write_stack
from dualfocus_ros.benchmark.method_timing import ComputeConfig
from dualfocus_ros.benchmark.subprocess_runner import run_in_subprocess
from dualfocus_ros.benchmark.timing import MIN_REPEATS

COMPUTE = ComputeConfig('cpu', 'auto', 1)


@pytest.mark.parametrize('name', ['sml', 'auto'])
def test_measures_in_a_separate_process(tmp_path, name):
    file = tmp_path / 'stack.npz'
    write_stack(file, RandomStacks().stack(StackShape(2, 64, 48)))
    found = run_in_subprocess(name, file, COMPUTE, 0.01)
    assert 5 * 10**7 < found['imported_bytes'] <= found['peak_bytes'] < 10**10
    assert found['device_peak_bytes'] is None
    times = {key: value for key, value in found.items() if key.endswith('_ms')}
    assert set(times) == (set() if name == 'sml' else {'whole_ms', 'sliding_ms'})
    assert all(
        0.0 < time['p50'] < 1e5 and time['repeats'] >= MIN_REPEATS for time in times.values()
    )


def test_failure_in_the_process_returns_its_error(tmp_path):
    found = run_in_subprocess('auto', tmp_path / 'none.npz', COMPUTE, 0.01)
    assert 'none.npz' in found['error']
