# SPDX-License-Identifier: Apache-2.0
"""Evaluation from Python."""

import json

import pytest

from dualfocus_ros.evaluation.evaluation_run import EvaluationConfig, run_evaluation
from dualfocus_ros.exceptions import ConfigError

DATA = ('indoor:7,count=2,width=64',)


def test_runs_from_python(tmp_path):
    config = EvaluationConfig(
        DATA, methods=('sml', 'range-only'), baseline='sml', planes=4, threads=1
    )
    report = run_evaluation(config)
    (result,) = report.results
    assert list(result.accumulators) == ['sml', 'range-only'] and result.stacks == 2
    assert report.write(tmp_path) == (tmp_path / 'report.md').read_text('utf-8')
    content = json.loads(report.json())
    assert content == json.loads((tmp_path / 'report.json').read_text('utf-8'))
    assert '| error over that of sml |' in report.markdown()


def test_rejects_values_in_the_words_of_the_caller():
    with pytest.raises(ConfigError, match=r'^planes must be 0'):
        EvaluationConfig(planes=1)
    with pytest.raises(ConfigError, match=r'^limit must not be negative, got -1'):
        EvaluationConfig(limit=-1)
    with pytest.raises(ConfigError, match=r"^baseline 'rdf' is none of the methods: sml"):
        run_evaluation(EvaluationConfig(DATA, ('sml',), baseline='rdf'))
