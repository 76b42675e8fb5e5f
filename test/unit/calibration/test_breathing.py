# SPDX-License-Identifier: Apache-2.0
"""Fit of focus breathing."""

import numpy as np
import pytest

from dualfocus_ros.calibration.breathing import fit_breathing
from dualfocus_ros.calibration.view_registration import RegisteredView
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


class TestBreathing:
    q = np.linspace(0.2, 2.4, 7)

    def views(self, g1=0.016, g2=3e-4, drift=(4e-4, -2e-4), noise=0.0, reference=1.3, width=640):
        rng = np.random.default_rng(1)
        m = 1.0 + g1 * self.q + g2 * self.q**2
        r = 1.0 + g1 * reference + g2 * reference**2
        s = m / r + rng.normal(0.0, noise, len(m))
        shift = width * np.outer(self.q - s * reference, drift)
        return (
            [RegisteredView(q, a, tuple(b), 0.05) for q, a, b in zip(self.q, s, shift)],
            reference,
            width,
        )

    def test_exact_data_recover_the_model(self):
        found = fit_breathing(*self.views())
        assert found.coefficients == pytest.approx((0.016, 3e-4), rel=1e-6)
        assert found.drift == pytest.approx((4e-4, -2e-4), rel=1e-6)
        assert found.left_out_px < 1e-6

    def test_standard_errors_cover_the_deviation(self):
        found = fit_breathing(*self.views(noise=3e-5))
        off = np.array(found.coefficients) - [0.016, 3e-4]
        assert np.all(np.abs(off) < 4.0 * np.array(found.errors))
        assert found.errors[0] < 1e-3

    def test_lens_without_breathing(self):
        found = fit_breathing(*self.views(g1=0.0, g2=0.0, drift=(0.0, 0.0), noise=1e-5))
        assert abs(found.coefficients[0]) < 4.0 * found.errors[0] < 1e-3

    def test_refusals(self):
        views, reference, width = self.views()
        with refuses('4 focus settings'):
            fit_breathing(views[:4], reference, width)
        narrow = [
            RegisteredView(2.0 + 0.05 * n, 1.0 + 8e-4 * n, (0.0, 0.0), 0.0) for n in range(6)
        ]
        with refuses('reach only from 2.00 to 2.25'):
            fit_breathing(narrow, 2.1, width)
        bad = [
            RegisteredView(v.dioptres, v.scale + 0.01 * (-1) ** n, v.shift_px, 0.1)
            for n, v in enumerate(views)
        ]
        with refuses('differs from the prediction of the others'):
            fit_breathing(bad, reference, width)
        with refuses('2.50 pixels apart'):
            fit_breathing(
                [RegisteredView(v.dioptres, v.scale, v.shift_px, 2.5) for v in views],
                reference,
                width,
            )
