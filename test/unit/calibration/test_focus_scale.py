# SPDX-License-Identifier: Apache-2.0
"""Fit of the focus scale."""

import numpy as np
import pytest

from dualfocus_ros.calibration.focus_scale import fit_focus_scale
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


class TestFocusScale:
    distances = np.array([0.3, 0.4, 0.6, 1.0, 2.0, 5.0])

    def positions(self, a, b):
        return (1.0 / self.distances - a) / b

    def test_linear_scale(self):
        scale = fit_focus_scale(self.positions(-0.4, 0.016), self.distances)
        assert scale.coefficients == pytest.approx((-0.4, 0.016), rel=1e-6)
        positions, dioptres = scale.table
        assert np.all(np.diff(positions) > 0.0) and np.all(np.diff(dioptres) > 0.0)
        assert np.interp(37.5, positions, dioptres) == pytest.approx(-0.4 + 0.016 * 37.5)

    def test_units_that_decrease_with_dioptres(self):
        scale = fit_focus_scale(self.positions(6.0, -0.02), self.distances)
        positions, dioptres = scale.table
        assert np.all(np.diff(positions) > 0.0) and np.all(np.diff(dioptres) < 0.0)

    def test_quadratic_term_if_it_reduces_the_error(self):
        u = np.linspace(10.0, 200.0, 8)
        true = 0.1 + 0.01 * u + 2e-5 * u**2
        noisy = true + np.random.default_rng(0).normal(0.0, 0.003, 8)
        scale = fit_focus_scale(u, 1.0 / noisy)
        assert len(scale.coefficients) == 3
        linear, quadratic = scale.left_out_rms
        assert quadratic < 0.5 * linear
        assert np.abs(scale.dioptres_at(u) / true - 1.0).max() < 0.02
        # On a linear scale a quadratic term would only fit the noise.
        straight = 0.1 + 0.015 * u + np.random.default_rng(2).normal(0.0, 0.003, 8)
        assert len(fit_focus_scale(u, 1.0 / straight).coefficients) == 2

    def test_one_wrong_distance_is_an_outlier(self):
        distances = np.array([0.3, 0.35, 0.42, 0.55, 0.75, 1.2, 2.0, 4.0])
        positions = (1.0 / distances - 0.1) / 0.01
        distances[4] = 0.57
        scale = fit_focus_scale(positions, distances)
        assert np.nonzero(scale.fit.outliers)[0].tolist() == [4]
        assert scale.coefficients == pytest.approx((0.1, 0.01), rel=0.02)

    def test_refusals(self):
        with refuses('2 different distances'):
            fit_focus_scale([10, 20], [1.0, 2.0])
        with refuses('reach only from 0.5 m to 0.55 m'):
            fit_focus_scale([10, 20, 30], [0.5, 0.52, 0.55])
        with refuses('do not lie on one curve'):
            fit_focus_scale([10, 20, 30, 40, 50], [0.3, 2.0, 0.4, 5.0, 0.35])
        u = np.linspace(0.0, 100.0, 9)
        with refuses('turns round'):
            fit_focus_scale(u, 1.0 / (0.5 + ((u - 40.0) / 40.0) ** 2))
        with refuses('positive metres'):
            fit_focus_scale([1, 2, 3], [1.0, -2.0, 3.0])
