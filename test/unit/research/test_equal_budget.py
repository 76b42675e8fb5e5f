# SPDX-License-Identifier: Apache-2.0
"""Comparison of trained networks."""

import json

from safetensors.torch import save_file
import torch

from dualfocus_ros.models.dfv import DFV, save_dfv
from research import equal_budget
from study_files import run_study_command


def test_reports_recipes_and_ratios_to_the_baseline(tmp_path):
    torch.manual_seed(0)
    save_dfv(tmp_path / 'base.safetensors', DFV())
    (tmp_path / 'manifest.json').write_text(
        json.dumps({'models': {'base': {'recipe': {'steps': 5, 'seed': 1}}}})
    )
    found, markdown = run_study_command(
        tmp_path,
        'ablation',
        '--data',
        'shapes:3,count=1,size=64',
        '--planes',
        '4',
        '--methods',
        f'dfv:{tmp_path / "base.safetensors"}',
        'auto',
        'sml',
    )
    assert found['baseline'] == 'dfv:base'
    assert found['recipes'][0] == {'method': 'dfv:base', 'steps': '5', 'seed': '1'}
    assert '**Not an equal budget**: steps' in markdown
    rows = {row['method']: row for row in found['rows']}
    ratio = rows['sml']['rmse'] / rows['dfv:base']['rmse']
    assert f'- sml: RMSE {ratio:.2f} x, AbsRel ' in markdown
    assert 0.0 <= rows['dfv:base']['unimodal'] <= 1.0


def test_reads_recipes_from_metadata(tmp_path):
    path = tmp_path / 'a.safetensors'
    data = {'source': 'pool', 'stacks': 9, 'render': {'layers': 14}}
    settings = {'steps': 100, 'seed': 3, 'batch': {'size': 4, 'planes': [3, 10]}}
    recipe = {'steps': 70, 'without': ['focal'], 'data': data, 'settings': settings}
    save_file({'x': torch.zeros(1)}, path, metadata={'recipe': json.dumps(recipe), 'note': 'x'})
    found = equal_budget.training_recipe(str(path))
    digest = found.pop('rendering')
    assert len(digest) == 8
    assert found == {
        'without': 'focal',
        'steps': '70',
        'batch': '4',
        'planes': '3 10',
        'seed': '3',
        'data': 'source pool, stacks 9',
    }
    assert equal_budget.training_recipe('sml') == {}
    assert int(equal_budget.training_recipe('auto')['steps']) > 0
