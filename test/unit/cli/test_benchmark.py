# SPDX-License-Identifier: Apache-2.0
"""``dualfocus benchmark``: files and usage errors."""

import json

import cv2
import pytest

from benchmark_fakes import RandomStacks, use_fake_methods
from dualfocus_ros.benchmark import benchmark_run
from dualfocus_ros.cli.main import main


def test_writes_three_files(tmp_path, monkeypatch, capsys):
    use_fake_methods(monkeypatch)
    monkeypatch.setattr(benchmark_run, 'RenderedSweep', RandomStacks)
    out = tmp_path / 'out'
    words = [
        'benchmark',
        '-o',
        str(out),
        '--planes',
        '2',
        '3',
        '--sizes',
        '64x48',
        '96x64',
        '--methods',
        'a',
        'bb',
        '--seconds',
        '1e-6',
        '--device',
        'cpu',
        '--threads',
        '1',
    ]
    assert main([*words, '--json']) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / 'benchmark.json').read_text())
    assert [m['name'] for m in printed['methods']] == ['a', 'bb']
    assert (out / 'benchmark.md').read_text().startswith('# Benchmark\n')
    assert cv2.imread(str(out / 'benchmark.png')).shape[1] > 1000


@pytest.mark.parametrize(
    ('words', 'status', 'text'),
    [
        (['--planes', '1'], 2, '--planes: a stack has 2 to 32 planes, got 1'),
        (['--sizes', '640'], 2, 'WIDTHxHEIGHT'),
        (['--sizes', '640x4'], 2, '32 to 8192 pixels'),
        (['--seconds', '0'], 2, 'positive'),
        (['--methods', 'auto', 'dualfocus-lite'], 2, 'leave out one of the two names'),
        (['--threads', '-1'], 2, '--threads must not be negative'),
        (['--device', 'toaster'], 1, 'toaster'),
        (['--device', 'cpu', '--precision', 'fp16'], 1, 'fp16'),
    ],
)
def test_usage_errors(words, status, text, capsys):
    assert main(['benchmark', *words]) == status
    message = capsys.readouterr().err
    assert text in message and 'Traceback' not in message
