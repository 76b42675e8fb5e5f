# SPDX-License-Identifier: Apache-2.0
"""What is measured, who is measured, and the command."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch

from dualfocus_ros.cli.main import main
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.evaluation.cases import case_from_stack
from dualfocus_ros.evaluation.methods import Estimate, open_methods
from dualfocus_ros.evaluation.metric_accumulator import (
    MetricAccumulator,
    ause,
    score_estimate,
    texture_strength,
    unimodal_share,
)
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.single_image import SingleImageRegression
from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.dfv import DFV, load_dfv, save_dfv
from dualfocus_ros.models.dualfocus import DualFocus, DualFocusConfig
from dualfocus_ros.models.weights import save_model

CPU = torch.device('cpu')


def stack(unit='metres', focus=(0.5, 1.0, 2.0), truth=1.0, shape=(32, 32), **more):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(focus), *shape, 3), dtype=np.uint8)
    depth = None if truth is None else np.full(shape, truth, np.float32)
    return StackSample('s', images, np.array(focus, dtype=float), unit, depth, **more)


def judge(case, position, **more):
    accumulator = MetricAccumulator()
    estimate = Estimate(np.broadcast_to(position, case.truth.shape).astype(np.float32), **more)
    return score_estimate(case, estimate, texture_strength(case), accumulator), accumulator


def test_metres_are_judged_in_metres_and_in_dioptres():
    case = case_from_stack(stack())
    assert case.focus.tolist() == [2.0, 1.0, 0.5]
    image, _ = judge(case, 0.8)
    for name in ('mae', 'rmse', 'abs_rel'):
        assert image[name] == pytest.approx(0.25, rel=1e-5)
    assert image['delta2'] == 1.0
    assert image['mae_position'] == pytest.approx(0.2, rel=1e-5)


def test_units_without_a_zero_get_no_ratios():
    image, _ = judge(case_from_stack(stack('shift', (-1.0, 0.0, 1.0), truth=-0.5)), -0.25)
    assert image['mae'] == pytest.approx(0.25)
    assert 'abs_rel' not in image and 'mae_position' not in image
    image, _ = judge(case_from_stack(stack('disparity', (0.1, 0.2), truth=0.15)), 0.12)
    assert image['abs_rel'] == pytest.approx(0.2, rel=1e-5)


def test_the_limit_clips_truth_and_estimate():
    case = case_from_stack(stack(truth=3.0, limit=1.5))
    image, _ = judge(case, 0.1)
    assert image['mae'] == pytest.approx(0.0, abs=1e-6)


def test_pixels_without_truth_do_not_count():
    sample = stack()
    sample.truth[:16] = np.nan
    position = np.where(np.arange(32)[:, None] < 16, 2.0, 1.0)
    image, _ = judge(case_from_stack(sample), np.broadcast_to(position, (32, 32)))
    assert image['mae'] == 0.0 and image['coverage'] == 1.0
    assert judge(case_from_stack(stack(truth=None)), 1.0)[0] == {}


def test_sigma_of_normal_errors_is_calibrated():
    rng = np.random.default_rng(5)
    case = case_from_stack(stack('slices', (0.0, 5.0, 10.0), truth=5.0, shape=(128, 128)))
    sigma = rng.uniform(0.1, 2.0, (128, 128)).astype(np.float32)
    image, accumulator = judge(case, 5.0 + sigma * rng.standard_normal((128, 128)), sigma=sigma)
    assert image['within_1_sigma'] == pytest.approx(0.683, abs=0.02)
    assert image['within_2_sigma'] == pytest.approx(0.954, abs=0.02)
    assert all(abs(p - found) < 0.02 for p, found in accumulator.calibration())
    shuffled = judge(case, 5.0 + sigma * rng.standard_normal((128, 128)), sigma=sigma.T)[0]
    assert image['ause'] < 0.5 * shuffled['ause']


def test_ause_is_zero_for_perfect_order():
    error = np.random.default_rng(2).random(500)
    assert ause(error, error) == 0.0
    assert ause(error, np.exp(error)) == 0.0
    assert ause(error, -error) > 0.5
    assert ause(np.zeros(5), np.ones(5)) == 0.0


def test_unimodal_share():
    p = np.array([[0.1, 0.4], [0.6, 0.1], [0.2, 0.5], [0.1, 0.0]])[:, None, :]
    assert unimodal_share(p) == 0.5


def test_pixels_are_sorted_by_side_distance_and_texture():
    sample = stack('disparity', (1.0, 2.0, 3.0))
    sample.truth[:, :8], sample.truth[:, 8:16] = 1.9, 2.3
    sample.truth[:, 16:24], sample.truth[:, 24:] = 3.5, 0.5
    case = case_from_stack(sample)
    _, accumulator = judge(case, case.truth_position + 0.1)
    side = {row['pixels']: row['share'] for row in accumulator.groups['side'].rows()}
    assert list(side.values()) == [0.25, 0.25, 0.5]
    distance = [row['share'] for row in accumulator.groups['distance to the closest plane'].rows()]
    assert distance == [0.25, 0.0, 0.25, 0.0, 0.5]
    texture = [row['share'] for row in accumulator.groups['texture'].rows()]
    assert texture == pytest.approx([0.25] * 4, abs=0.02)
    assert all(
        row['mae_position'] == pytest.approx(0.1, abs=1e-6)
        for bins in accumulator.groups.values()
        for row in bins.rows()
        if row['share']
    )


def test_residual_of_a_flat_region_is_that_of_the_best_plane():
    case = case_from_stack(stack(truth=None, plane=(slice(10, 30), slice(4, 28))))
    v, u = np.mgrid[0:32, 0:32]
    checker = 0.05 * (-1.0) ** (u + v)
    image, _ = judge(case, 1.0 + 0.01 * u - 0.02 * v + checker)
    assert image['plane_rms'] == pytest.approx(0.05, rel=0.02)
    assert image['plane_slope'] == pytest.approx(-0.4, abs=0.02)


def test_sigma_is_told_of_a_flat_region_and_of_the_blank_rest():
    recorded = stack(truth=None, plane=(slice(16, 32), slice(0, 32)))
    recorded.images[:, :8, :16] = 128
    sigma = np.full((32, 32), 0.2, np.float32)
    sigma[16:], sigma[:8, :16] = 0.1, 0.5
    image, _ = judge(case_from_stack(recorded), 1.0, sigma=sigma)
    found = [image[f'sigma_{where}'] for where in ('in_plane', 'elsewhere', 'blank')]
    assert found == pytest.approx([0.1, 0.2, 0.5])


def test_classical_methods_and_the_control_estimate_any_unit_and_order():
    sample = stack('slices', (2.0, 0.0, 1.0), truth=1.0)
    for plane, sharp in enumerate((False, False, True)):
        if not sharp:
            sample.images[plane] = 128
    for method in open_methods(['sml', 'rdf', 'range-only'], CPU):
        position = method.estimate(case_from_stack(sample)).position
        assert np.isfinite(position).all()
        assert np.median(position) == pytest.approx(1.0, abs=0.05), method.name


def test_constant_images_give_finite_estimates_inside_the_sweep():
    sample = stack('slices', (0.0, 1.0, 2.0))
    sample.images[:] = 90
    for method in open_methods([], CPU):
        position = method.estimate(case_from_stack(sample)).position
        assert ((position >= -1e-4) & (position <= 2.0001)).all(), method.name


def test_a_weights_file_is_a_method(tmp_path):
    torch.manual_seed(0)
    small = DualFocusConfig(encoder=(4, 8, 8, 8), volume=(4, 4, 4), decoder=(4, 4, 4), surfaces=2)
    save_model(tmp_path / 'no-spatial.safetensors', DualFocus(small))
    (method,) = open_methods([str(tmp_path / 'no-spatial.safetensors')], CPU)
    case = case_from_stack(stack())
    estimate = method.estimate(case)
    assert method.name == 'no-spatial'
    assert estimate.sigma is not None and (estimate.sigma > 0.0).all()
    np.testing.assert_allclose(estimate.probability.sum(axis=0), 1.0, atol=1e-4)
    np.testing.assert_allclose(
        np.tensordot(case.focus, estimate.probability, 1), estimate.position, atol=1e-3
    )


def test_the_single_image_control_sees_one_plane_only():
    """It beats the range alone where place tells depth; no other plane changes what it says."""
    (method,) = open_methods(['single-image:indoor:900,count=12,width=64'], CPU, ProtocolB(5))
    (control,) = open_methods(['range-only'], CPU)
    data = open_dataset('indoor:0,count=3,width=64')
    cases = [ProtocolB(5).case(data[index], data) for index in range(3)]
    errors = {
        m.name: np.mean([np.abs(m.estimate(c).position - c.truth_position).mean() for c in cases])
        for m in (method, control)
    }
    assert errors['single-image'] < 0.9 * errors['range-only']
    other = cases[0].images.copy()
    other[[0, 1, 3, 4]] = 0
    changed = type(cases[0])(**{**vars(cases[0]), 'images': other})
    first = method.estimate(cases[0])
    np.testing.assert_array_equal(first.position, method.estimate(changed).position)
    assert first.sigma is None and 'indoor:900' in method.about
    with pytest.raises(ValueError, match='views with truth'):
        SingleImageRegression([case_from_stack(stack(truth=None))])


def test_dfv_is_available_with_weights_only(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(WeightsError, match='none are shipped'):
        open_methods([f'dfv:{tmp_path / "dfv.safetensors"}'], CPU)
    with pytest.raises(WeightsError, match='dfv:PATH'):
        open_methods(['dfv'], CPU)
    path = tmp_path / 'dfv.safetensors'
    save_dfv(path, DFV())
    (method,) = open_methods([f'dfv:{path}'], CPU)
    case = case_from_stack(stack(shape=(32, 48)))
    estimate = method.estimate(case)
    assert estimate.position.shape == (32, 48)
    np.testing.assert_allclose(
        np.tensordot(case.focus, estimate.probability, 1), estimate.position, atol=1e-3
    )
    tensors = load_file(path)
    tensors['trunk.stem.0.weight'][0, 0, 0, 0] = math.nan
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r'trunk\.stem\.0\.weight'):
        load_dfv(path)
    del tensors['trunk.stem.0.weight']
    save_file(tensors, path)
    with pytest.raises(WeightsError, match='1 tensors differ'):
        load_dfv(path)


def test_images_that_are_not_finite_are_refused():
    case = case_from_stack(stack())
    broken = case.images / np.float32(255.0)
    broken[0, 0, 0, 0] = np.nan
    (method,) = open_methods(['auto'], CPU)
    with pytest.raises(ValueError, match='not finite'):
        method.estimate(type(case)(**{**vars(case), 'images': broken}))


def test_the_command_writes_tables_json_and_figures(tmp_path, capsys):
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


def test_the_command_says_protocol_a_leaks(capsys):
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
def test_wrong_use_ends_in_one_line(words, status, capsys):
    assert main(['evaluate', *words]) == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


SHARED = Path(__file__).parents[4] / 'shared' / 'data' / 'stacks'


@pytest.mark.skipif(not SHARED.is_dir(), reason='real stacks are not here')
def test_recorded_stacks_through_the_command(capsys):
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
