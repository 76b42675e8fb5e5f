# SPDX-License-Identifier: Apache-2.0
"""Distributed training of one network in two processes."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
from safetensors.torch import load_file
import torch

from dualfocus_ros.models import load_model

SCRIPT = Path(__file__).resolve().parents[1] / 'support' / 'train_together.py'
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}


def run(command):
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope='module')
def states(tmp_path_factory):
    folder = tmp_path_factory.mktemp('train')
    run([*TORCHRUN, str(SCRIPT), str(folder), 'distributed'])
    run([sys.executable, str(SCRIPT), str(folder), 'single'])
    return {path.stem: load_file(path) for path in folder.glob('*.safetensors')}


@pytest.mark.slow
def test_all_processes_have_the_same_network(states):
    first, second = states['distributed0'], states['distributed1']
    assert first.keys() == second.keys() and 'weights.statistics.running_mean' in first
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(states):
    distributed, single = states['distributed0'], states['single0']
    for name, value in single.items():
        # The mean of two variances is not the variance of the joint batch.
        if 'running_var' not in name:
            assert torch.allclose(distributed[name].float(), value.float(), atol=2e-6), name


@pytest.mark.slow
def test_the_command_trains_with_two_processes(tmp_path):
    command = [
        *TORCHRUN,
        '-m',
        'dualfocus_ros',
        'train',
        '-o',
        str(tmp_path),
        '--stacks',
        '2',
        '--held-out',
        '2',
        '--batch',
        '1',
        '--crop',
        '64',
        '--workers',
        '1',
        '--planes',
        '3',
        '3',
        '--sample-every',
        '0',
        '--steps',
        '2',
    ]
    log = run(command)
    assert log.count('training dualfocus-lite on') == 1  # of the first process only
    assert load_model(str(tmp_path / 'dualfocus-lite.safetensors')).network is not None
    manifest = json.loads((tmp_path / 'manifest.json').read_text())
    assert manifest['models']['dualfocus-lite']['recipe']['processes'] == 2
