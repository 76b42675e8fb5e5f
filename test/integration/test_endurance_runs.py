# SPDX-License-Identifier: Apache-2.0
"""Short forms of `make kill` and `make soak`, which take their time."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

ENDURANCE = Path(__file__).parents[1] / 'endurance'


def run(script, *words):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [sys.executable, ENDURANCE / script, *map(str, words)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_three_kills(tmp_path):
    done = run('kill.py', '--count', 3, '--seed', 2, '--output', tmp_path)
    assert done.returncode == 0, done.stdout
    figures = json.loads((tmp_path / 'kill.json').read_text())
    assert figures['kills'] == 3 and figures['sweeps not hit'] > 0
    assert figures['sweeps hit'] > 0
    assert (tmp_path / 'kill.png').stat().st_size > 10_000
    assert len((tmp_path / 'kill.csv').read_text().splitlines()) == figures['sweeps'] + 1


@pytest.mark.fault(22)
@pytest.mark.slow
@pytest.mark.timeout(450)
def test_two_minutes_of_soak(tmp_path):
    done = run('soak.py', '--minutes', 2, '--output', tmp_path)
    # Two minutes are warm-up for slopes, but not for lost depth.
    found = json.loads((tmp_path / 'soak.json').read_text())
    assert found['counts']['expected'] > 20, done.stdout
    assert found['counts']['got'] == found['counts']['expected'], done.stdout
    assert {
        'depth_node [MB]',
        'sim_camera_node [MB]',
        'focus_sweep_node [MB]',
        'latency [ms]',
    } <= set(found['slopes_per_hour'])
    assert done.returncode == (1 if found['problems'] else 0)
    assert (tmp_path / 'soak.png').stat().st_size > 10_000
