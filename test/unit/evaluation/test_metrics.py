# SPDX-License-Identifier: Apache-2.0
"""Depth errors compared with values calculated by hand."""

import numpy as np
import pytest

from dualfocus_ros.evaluation.metrics import bumpiness, depth_errors, mean_errors


def test_values_by_hand():
    truth = np.array([[1.0, 2.0], [4.0, 0.0]])
    estimate = np.array([[1.1, 1.0], [4.0, 9.0]])
    errors = depth_errors(estimate, truth)
    assert errors.coverage == 1.0
    assert errors.mse == pytest.approx((0.01 + 1.0 + 0.0) / 3)
    assert errors.rmse == pytest.approx(errors.mse**0.5)
    assert errors.abs_rel == pytest.approx((0.1 + 0.5 + 0.0) / 3)
    assert errors.sq_rel == pytest.approx((0.01 + 0.5) / 3)
    assert errors.delta1 == pytest.approx(2 / 3)
    assert errors.delta3 == pytest.approx(2 / 3)


def test_invalid_estimates_reduce_coverage_only():
    truth = np.array([[1.0, 2.0, np.nan, 3.0]])
    estimate = np.array([[1.0, np.nan, 5.0, np.inf]])
    errors = depth_errors(estimate, truth)
    assert errors.coverage == pytest.approx(1 / 3)
    assert errors.rmse == 0.0 and errors.delta1 == 1.0


def test_rejects_maps_without_common_pixels():
    with pytest.raises(ValueError, match='no pixel to compare'):
        depth_errors(np.full((2, 2), np.nan), np.ones((2, 2)))
    with pytest.raises(ValueError, match='differ in size'):
        depth_errors(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match='no images'):
        mean_errors([])


def test_mean_is_over_images():
    near = depth_errors(np.array([[1.1]]), np.array([[1.0]]))
    far = depth_errors(np.array([[3.0]]), np.array([[1.0]]))
    assert mean_errors([near, far]).rmse == pytest.approx((0.1 + 2.0) / 2)


def test_bumpiness_is_four_times_the_hessian_and_clipped():
    x = np.mgrid[0:40, 0:40][1].astype(float)
    truth = np.zeros((40, 40))
    truth[4:-4, 4:-4] = 1.0  # away from the reflected border
    error = 0.5 * 0.002 * x**2
    assert bumpiness(truth + error, truth) == pytest.approx(100 * 4 * 0.002)
    assert bumpiness(truth + 0.3 * x, truth) == pytest.approx(0.0, abs=1e-9)
    noise = np.random.default_rng(0).normal(0, 1.0, truth.shape)
    assert bumpiness(truth + noise, truth) == pytest.approx(5.0, abs=0.05)
    assert bumpiness(truth, truth) == 0.0


def test_bumpiness_with_zero_border_omits_border_effects():
    noise = np.random.default_rng(0).normal(0, 0.01, (64, 64))
    truth = np.ones((64, 64))
    reflected, zeroed = bumpiness(truth + noise, truth), bumpiness(truth + noise, truth, 'zero')
    assert zeroed < reflected
    # Equal away from the border: two filters reach two pixels.
    inner = np.zeros((64, 64))
    inner[2:-2, 2:-2] = 1.0
    error = inner + noise
    assert bumpiness(error, inner, 'zero') == pytest.approx(bumpiness(error, inner))
    with pytest.raises(ValueError, match='border'):
        bumpiness(truth, truth, 'wrap')
