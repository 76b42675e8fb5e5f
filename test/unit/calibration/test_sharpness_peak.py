# SPDX-License-Identifier: Apache-2.0
"""Peak of a focus measure."""

import numpy as np
import pytest

from dualfocus_ros.calibration.sharpness_peak import find_sharpness_peak
from dualfocus_ros.exceptions import CalibrationError


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


class TestSharpnessPeak:
    u = np.linspace(0.0, 300.0, 31)

    def test_interpolates_and_averages_repeated_sweeps(self):
        measure = (1.0 + ((self.u - 123.4) / 30.0) ** 2) ** -1.3
        peak = find_sharpness_peak([*self.u, *self.u[::-1]], [*measure, *measure[::-1]])
        assert peak.position == pytest.approx(123.4, abs=0.3)
        assert peak.contrast > 10.0 and len(peak.positions) == 31

    def test_refusals(self):
        with refuses('3 lens positions'):
            find_sharpness_peak([1, 2, 3], [1.0, 2.0, 1.0])
        with refuses('hardly sharper'):
            find_sharpness_peak(self.u, 1.0 + 0.01 * np.sin(self.u))
        with refuses('end of the sweep'):
            find_sharpness_peak(self.u, 1.0 + self.u)
        two = sum((1.0 + ((self.u - at) / 12.0) ** 2) ** -2.0 for at in (80.0, 230.0))
        with refuses('no clear single peak'):
            find_sharpness_peak(self.u, two)
