# SPDX-License-Identifier: Apache-2.0
"""Studies: what they measure, what they say about it, and the command."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
import torch

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.evaluation.cases import case_from_stack
from dualfocus_ros.evaluation.method_interface import Estimate
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.tables import markdown_table
from dualfocus_ros.models.dfv import DFV, save_dfv
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.psf import Aperture
from research import equal_budget, transfer
from research.__main__ import main
from research.joined_dataset import join_datasets

SMALL = 'shapes:3,count=2,size=64'


def study(tmp_path, *words):
    """Run a study; return its JSON."""
    status = main([*words, '-o', str(tmp_path), '--threads', '1', '--quiet'])
    assert status == 0
    name = words[0]
    markdown = (tmp_path / f'{name}.md').read_text('utf-8')
    assert markdown.startswith('# ') and f'({name}.png)' in markdown
    picture = cv2.imread(str(tmp_path / f'{name}.png'))
    assert picture is not None and picture.std() > 5.0
    return json.loads((tmp_path / f'{name}.json').read_text('utf-8')), markdown


def test_stack_size_measures_every_method_at_every_size(tmp_path):
    found, markdown = study(
        tmp_path,
        'stack-size',
        '--data',
        SMALL,
        '--sizes',
        '9',
        '2',
        '4',
        '--methods',
        'auto',
        'sml',
        'range-only',
    )
    assert [(r['planes'], r['method']) for r in found['rows']] == [
        (n, m) for n in (2, 4, 9) for m in (*found['methods'],)
    ]
    assert '| method | N = 2 | N = 4 | N = 9 |' in markdown
    network, _, control = (
        [row['mae_position'] for row in found['rows'][start::3]] for start in range(3)
    )
    assert network[-1] < network[0] and network[-1] < 0.5 * control[0]
    assert control == pytest.approx([control[0]] * 3)


def test_asymmetry_changes_the_images_and_knows_the_sides(tmp_path):
    found, markdown = study(
        tmp_path,
        'asymmetry',
        '--data',
        SMALL,
        '--limit',
        '1',
        '--sweeps',
        'spherical',
        'tilt',
        '--methods',
        'sml',
        'range-only',
        '--planes',
        '5',
    )
    rows = {(r['method'], r['sweep'], r['value']): r for r in found['rows']}
    assert rows['sml', 'spherical', 0.0]['near'] == rows['sml', 'tilt', 0.0]['near']
    assert rows['sml', 'spherical', 0.8]['near'] != rows['sml', 'spherical', -0.8]['near']
    assert rows['range-only', 'spherical', 0.8]['far'] == rows['range-only', 'tilt', 0.1]['far']
    assert '## Tilt c2' in markdown and 'Cat' not in markdown.split('## ', 1)[1]
    assert '| range-only | 1.00 | 1.00 |' in markdown


def test_equal_budget_says_how_methods_were_trained_and_sets_them_in_relation(tmp_path):
    torch.manual_seed(0)
    save_dfv(tmp_path / 'base.safetensors', DFV())
    (tmp_path / 'manifest.json').write_text(
        json.dumps({'models': {'base': {'recipe': {'steps': 5, 'seed': 1}}}})
    )
    found, markdown = study(
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


def test_recipes_are_found_in_metadata_too(tmp_path):
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


def relief(folder: Path, shape=(96, 120), count=7):
    """Write a stack in which sharpness moves from left to right, as ``relief_1`` is laid out."""
    rng = np.random.default_rng(0)
    sharp = cv2.GaussianBlur(rng.integers(0, 255, shape).astype(np.float32), (0, 0), 0.7)
    truth = np.tile(np.linspace(0.5, count - 1.5, shape[1], dtype=np.float32), (shape[0], 1))
    folder.mkdir(parents=True)
    blurred = np.stack([cv2.GaussianBlur(sharp, (0, 0), 0.2 + 0.9 * k) for k in range(count)])
    for plane in range(count):
        level = np.clip(np.abs(truth - plane), 0, count - 1.001)
        low = level.astype(int)
        rows, columns = np.indices(shape)
        mixed = blurred[low, rows, columns] * (1 - level + low)
        mixed += blurred[low + 1, rows, columns] * (level - low)
        cv2.imwrite(str(folder / f'image_{plane + 1}.png'), mixed)
    np.save(folder / 'reference.npy', -truth[20:-20, 20:-20])


def test_transfer_takes_what_is_there(tmp_path):
    relief(tmp_path / 'stacks' / 'relief_2')
    found, markdown = study(
        tmp_path, 'transfer', '--data', str(tmp_path), '--methods', 'auto', 'sml', 'range-only'
    )
    assert found['stacks'] == ['relief_2']
    assert 'left out: relief_1, antinous, phone_table, pcb' in markdown
    network, sml, control = found['rows']
    assert network['planes'] == 7
    assert network['mae'] < 0.5 * control['mae'] and sml['mae'] < 0.5 * control['mae']
    assert sml['mae_textured'] > 0.0 and sml['median'] > 0.0


def test_blending_by_the_truth_is_sharp(tmp_path):
    relief(tmp_path / 'relief_1')
    sample = open_dataset(f'stack:{tmp_path / "relief_1"},unit=slices,focus=index')[0]
    case = case_from_stack(sample)
    ideal = np.tile(np.linspace(0.5, 5.5, 120, dtype=np.float32), (96, 1))
    good = transfer.all_in_focus(case, Estimate(ideal))
    bad = transfer.all_in_focus(case, Estimate(np.full((96, 120), 3.0, np.float32)))
    np.testing.assert_allclose(bad, case.images[3])
    reference = np.roll(good.clip(0, 255).astype(np.uint8), 2, axis=1)
    same, other = (transfer.compare_all_in_focus(image, reference) for image in (good, bad))
    assert same['psnr'] > 30.0 and same['sharpness'] == pytest.approx(1.0, abs=0.05)
    assert other['psnr'] < same['psnr'] - 5.0 and other['sharpness'] < 0.8


def test_aberrations_of_protocol_b_are_named_and_change_the_images():
    data = open_dataset('shapes:3,count=1,size=64')
    plain = ProtocolB(3)
    lens = ProtocolB(3, aperture=Aperture(spherical=0.5), field=FieldAberrations(cat_eye=0.5))
    assert 'spherical 0.5, cat_eye 0.5)' in lens.describe(data)
    assert plain.describe(data).endswith('8 bits)')
    assert (lens.render(data[0], data).images != plain.render(data[0], data).images).any()


def test_joined_sets_take_evenly_spread_samples_of_each():
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


def test_table_leaves_out_what_nobody_has():
    lines = markdown_table(
        [{'method': 'a', 'x': 0.5}, {'method': 'b', 't': 'w'}],
        [('x', 'X', -1), ('y', 'Y', 2), ('t', 'T', 0)],
    )
    assert lines[:2] == ['| method | X | T |', '| --- | ---: | --- |']
    assert lines[2:] == ['| a | 50.0 |  |', '| b |  | w |']


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
def test_wrong_use_ends_in_one_line(tmp_path, words, status, says, capsys):
    assert main([*words, '-o', str(tmp_path / 'out')]) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
