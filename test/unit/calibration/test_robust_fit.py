# SPDX-License-Identifier: Apache-2.0
"""Robust linear fit."""

import numpy as np
import pytest

from dualfocus_ros.calibration.robust_fit import fit_linear


def test_ignores_and_marks_an_outlier():
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 1.0, 20)
    y = 2.0 + 3.0 * x + rng.normal(0.0, 0.01, 20)
    y[7] += 1.0
    fit = fit_linear(np.stack([np.ones_like(x), x], axis=1), y)
    assert fit.coefficients == pytest.approx([2.0, 3.0], abs=0.03)
    assert np.nonzero(fit.outliers)[0].tolist() == [7]
    assert np.all(np.abs(fit.coefficients - [2.0, 3.0]) < 5.0 * fit.errors)
