# SPDX-License-Identifier: Apache-2.0
"""Metrics of estimates with known errors."""

import numpy as np
import pytest

from dualfocus_ros.evaluation.method_interface import Estimate, case_from_stack
from dualfocus_ros.evaluation.metric_accumulator import (
    MetricAccumulator,
    ause,
    score_estimate,
    texture_strength,
    unimodal_mask,
)
from recorded_stack import recorded_stack


def score(case, position, **fields):
    accumulator = MetricAccumulator()
    estimate = Estimate(np.broadcast_to(position, case.truth.shape).astype(np.float32), **fields)
    return score_estimate(case, estimate, texture_strength(case), accumulator), accumulator


def test_metric_truth_has_errors_in_metres_and_dioptres():
    case = case_from_stack(recorded_stack())
    assert case.focus.tolist() == [2.0, 1.0, 0.5]
    image, _ = score(case, 0.8)
    for name in ('mae', 'rmse', 'abs_rel'):
        assert image[name] == pytest.approx(0.25, rel=1e-5)
    assert image['delta2'] == 1.0
    assert image['mae_position'] == pytest.approx(0.2, rel=1e-5)


def test_units_without_a_true_zero_have_no_ratios():
    image, _ = score(case_from_stack(recorded_stack('shift', (-1.0, 0.0, 1.0), truth=-0.5)), -0.25)
    assert image['mae'] == pytest.approx(0.25)
    assert 'abs_rel' not in image and 'mae_position' not in image
    image, _ = score(case_from_stack(recorded_stack('disparity', (0.1, 0.2), truth=0.15)), 0.12)
    assert image['abs_rel'] == pytest.approx(0.2, rel=1e-5)


def test_limit_clips_truth_and_estimate():
    case = case_from_stack(recorded_stack(truth=3.0, limit=1.5))
    image, _ = score(case, 0.1)
    assert image['mae'] == pytest.approx(0.0, abs=1e-6)


def test_pixels_without_truth_do_not_count():
    sample = recorded_stack()
    sample.truth[:16] = np.nan
    position = np.where(np.arange(32)[:, None] < 16, 2.0, 1.0)
    image, _ = score(case_from_stack(sample), np.broadcast_to(position, (32, 32)))
    assert image['mae'] == 0.0 and image['coverage'] == 1.0
    assert score(case_from_stack(recorded_stack(truth=None)), 1.0)[0] == {}


def test_sigma_of_normal_errors_is_calibrated():
    rng = np.random.default_rng(5)
    case = case_from_stack(recorded_stack('slices', (0.0, 5.0, 10.0), truth=5.0, shape=(128, 128)))
    sigma = rng.uniform(0.1, 2.0, (128, 128)).astype(np.float32)
    image, accumulator = score(case, 5.0 + sigma * rng.standard_normal((128, 128)), sigma=sigma)
    assert image['within_1_sigma'] == pytest.approx(0.683, abs=0.02)
    assert image['within_2_sigma'] == pytest.approx(0.954, abs=0.02)
    assert all(abs(p - found) < 0.02 for p, found in accumulator.calibration())
    shuffled = score(case, 5.0 + sigma * rng.standard_normal((128, 128)), sigma=sigma.T)[0]
    assert image['ause'] < 0.5 * shuffled['ause']


def test_ause_is_zero_for_perfect_order():
    error = np.random.default_rng(2).random(500)
    assert ause(error, error) == 0.0
    assert ause(error, np.exp(error)) == 0.0
    assert ause(error, -error) > 0.5
    assert ause(np.zeros(5), np.ones(5)) == 0.0


def test_unimodal_share():
    p = np.array([[0.1, 0.4], [0.6, 0.1], [0.2, 0.5], [0.1, 0.0]])[:, None, :]
    assert unimodal_mask(p).mean() == 0.5


def test_pixels_are_grouped_by_side_distance_and_texture():
    sample = recorded_stack('disparity', (1.0, 2.0, 3.0))
    sample.truth[:, :8], sample.truth[:, 8:16] = 1.9, 2.3
    sample.truth[:, 16:24], sample.truth[:, 24:] = 3.5, 0.5
    case = case_from_stack(sample)
    _, accumulator = score(case, case.truth_position + 0.1)
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


def test_flat_region_residual_is_relative_to_best_plane():
    case = case_from_stack(recorded_stack(truth=None, plane=(slice(10, 30), slice(4, 28))))
    v, u = np.mgrid[0:32, 0:32]
    checker = 0.05 * (-1.0) ** (u + v)
    image, _ = score(case, 1.0 + 0.01 * u - 0.02 * v + checker)
    assert image['plane_rms'] == pytest.approx(0.05, rel=0.02)
    assert image['plane_slope'] == pytest.approx(-0.4, abs=0.02)


def test_median_sigma_of_flat_and_textureless_regions():
    recorded = recorded_stack(truth=None, plane=(slice(16, 32), slice(0, 32)))
    recorded.images[:, :8, :16] = 128
    sigma = np.full((32, 32), 0.2, np.float32)
    sigma[16:], sigma[:8, :16] = 0.1, 0.5
    image, _ = score(case_from_stack(recorded), 1.0, sigma=sigma)
    found = [image[f'sigma_{where}'] for where in ('in_plane', 'elsewhere', 'blank')]
    assert found == pytest.approx([0.1, 0.2, 0.5])
