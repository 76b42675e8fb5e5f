# SPDX-License-Identifier: Apache-2.0
"""Fit of the blur scale."""

import numpy as np
import pytest

from dualfocus_ros.calibration.blur_scale import fit_blur_scale
from dualfocus_ros.calibration.blur_widths import BlurWidths
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


class TestBlurScale:
    def widths(self, kappa=16.0, focus=1.2, floor=0.5, low=0.4, high=2.0, count=11, noise=0.0):
        q = np.linspace(low, high, count)
        sigma = np.hypot(floor, 0.25 * kappa * (q - focus))
        sigma = sigma * (1.0 + np.random.default_rng(0).normal(0.0, noise, count))
        return BlurWidths(q, sigma, 'edge')

    def test_parabola(self):
        found = fit_blur_scale(self.widths())
        assert found.kappa == pytest.approx(16.0, rel=1e-6)
        assert found.focus == pytest.approx(1.2, abs=1e-6)
        assert found.floor == pytest.approx(0.5, rel=1e-5)
        noisy = fit_blur_scale(self.widths(noise=0.01))
        assert abs(noisy.kappa - 16.0) < 4.0 * noisy.kappa_error < 2.0

    def test_one_side_needs_the_distance(self):
        one_side = self.widths(focus=0.5, low=0.8, high=2.0)
        with refuses('does not pass the focus of the target'):
            fit_blur_scale(one_side)
        assert fit_blur_scale(one_side, focus=0.5).kappa == pytest.approx(16.0, rel=1e-6)

    def test_refusals(self):
        with refuses('5 focus settings'):
            fit_blur_scale(self.widths(count=5))
        with refuses('changes by only'):
            fit_blur_scale(self.widths(kappa=2.0))
        with refuses('6 are needed'):  # too few of the six have enough blur
            fit_blur_scale(self.widths(count=6, low=0.6, high=1.8))
        falling = self.widths()
        with refuses('does not'):
            fit_blur_scale(BlurWidths(falling.dioptres, 8.0 - falling.sigma, 'edge'))
        with refuses('does not follow a thin lens'):
            fit_blur_scale(self.widths(noise=0.4))
