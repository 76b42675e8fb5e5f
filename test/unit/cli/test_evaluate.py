# SPDX-License-Identifier: Apache-2.0
"""``dualfocus evaluate``: report files, labels and usage errors."""

import json
from pathlib import Path

import cv2
import pytest

from dualfocus_ros.cli.main import main

SHARED = Path(__file__).parents[4] / 'shared' / 'data' / 'stacks'


def test_writes_tables_json_and_figures(tmp_path, capsys):
    status = main(
        [
            'evaluate',
            '--data',
            'synthetic:7,count=2,size=64',
            '--data',
            'indoor:7,count=1,width=64',
            '--planes',
            '4',
            '--threads',
            '1',
            '--methods',
            'auto',
            'sml',
            'range-only',
            '--baseline',
            'sml',
            '-o',
            str(tmp_path),
            '--quiet',
        ]
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / 'report.md').read_text('utf-8')
    assert '| error over that of sml | MAE | RMSE | AbsRel |' in printed
    assert 'protocol B (no leak: 4 planes' in printed and 'seed 0' in printed
    report = json.loads((tmp_path / 'report.json').read_text('utf-8'))
    assert report['facts']['device'].startswith('cpu')
    assert [s['stacks'] for s in report['sets']] == [2, 1]
    for found in report['sets']:
        assert found['planes'] == 4
        means = {name: values['means'] for name, values in found['methods'].items()}
        network, *others = means.values()
        assert network['rmse'] > 0.0 and 0.0 <= network['within_1_sigma'] <= 1.0
        assert 'within_1_sigma' not in others[0]
        assert len(found['methods']['sml']['images']) == found['stacks']
    indoor = 'indoor-7-count-1-width-64'
    for name in (
        'synthetic-7-count-2-size-64_example.png',
        f'{indoor}_depth.png',
        f'{indoor}_sigma.png',
    ):
        assert cv2.imread(str(tmp_path / name)) is not None
        assert name in printed


def test_protocol_a_is_labelled_leaky(capsys):
    assert (
        main(
            [
                'evaluate',
                '--data',
                'indoor:7,count=1,width=64',
                '--protocol',
                'A',
                '--methods',
                'range-only',
                '--json',
                '--quiet',
            ]
        )
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert 'LEAKY' in report['sets'][0]['protocol']
    assert report['sets'][0]['planes'] == 5


@pytest.mark.parametrize(
    ('words', 'status'),
    [
        (['--planes', '1'], 2),
        (['--limit', '-1'], 2),
        (['--methods', 'sml', '--baseline', 'rdf'], 2),
        (['--methods', 'nonsense'], 1),
        (['--data', 'nyu:/not/there'], 1),
        (['--methods', 'dfv:missing.safetensors'], 1),
    ],
)
def test_usage_errors_are_one_line(words, status, capsys):
    assert main(['evaluate', *words]) == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason='real stacks are not here')
def test_recorded_stacks(capsys):
    spec = f'stack:{SHARED / "antinous"},unit=shift,truth=ground_truth_disparity.npy,border=15'
    relief = f'stack:{SHARED / "relief_1"},unit=slices,focus=index,truth=reference.npy'
    assert (
        main(
            [
                'evaluate',
                '--data',
                spec,
                '--data',
                f'{relief},truth-scale=-1,crop=20:20',
                '--methods',
                'sml',
                'range-only',
                '--json',
                '--quiet',
            ]
        )
        == 0
    )
    antinous, relief_1 = json.loads(capsys.readouterr().out)['sets']
    error = antinous['methods']['sml']['means']['mae']
    assert error < 0.6 < antinous['methods']['range-only']['means']['mae']
    assert relief_1['methods']['sml']['means']['mae'] < 0.25
