# SPDX-License-Identifier: Apache-2.0
"""Studies from Python and from the command line."""

import pytest

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.exceptions import ConfigError
from research.__main__ import main
from research.study_run import StudyConfig, join_datasets, run_study


@pytest.mark.parametrize(
    ('words', 'status', 'says'),
    [
        (['stack-size', '--sizes', '1'], 2, '2 to 32 planes'),
        (['stack-size', '--planes', '40'], 2, '2 to 32 planes'),
        (['asymmetry', '--sweeps', 'coma'], 2, 'spherical'),
        (['transfer'], 2, '--data FOLDER'),
        (['transfer', '--data', '/not/there'], 1, 'relief_1'),
        (['equal-budget', '--baseline', 'rdf', '--methods', 'sml'], 2, 'none of the methods: sml'),
        (['stack-size', '--data', 'synthetic:0,count=1,size=64'], 2, 'recorded stacks'),
        (['asymmetry', '--methods', 'nonsense'], 1, 'unknown method'),
        (['stack-size', '--limit', '-2'], 2, 'negative'),
    ],
)
def test_usage_errors_are_one_line(tmp_path, words, status, says, capsys):
    assert main([*words, '-o', str(tmp_path / 'out')]) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_runs_from_python():
    config = StudyConfig(
        'stack-size', ('range-only',), ('shapes:3,count=1,size=64',), sizes=(2, 3), threads=1
    )
    report = run_study(config)
    assert [row['planes'] for row in report.study.data['rows']] == [2, 3]
    assert report.markdown().startswith('# Error against the number of planes')


def test_rejects_values_in_the_words_of_the_caller():
    with pytest.raises(ConfigError, match=r"^name must be one of .*, got 'nonsense'"):
        StudyConfig('nonsense')
    with pytest.raises(ConfigError, match=r'^sizes: a stack has 2 to 32 planes, got 1'):
        StudyConfig('stack-size', sizes=(1,))


def test_takes_evenly_spread_samples_of_each_set():
    sets = [open_dataset('shapes:1,count=5,size=64'), open_dataset('shapes:2,count=2,size=64')]
    both = join_datasets(sets, limit=3)
    assert [both[i].name for i in range(len(both))] == [
        'shapes-1-0',
        'shapes-1-1',
        'shapes-1-3',
        'shapes-2-0',
        'shapes-2-1',
    ]
    assert len(join_datasets(sets[:1], limit=2)) == 2
    assert join_datasets(sets[:1]).name == 'shapes:1,count=5,size=64'
