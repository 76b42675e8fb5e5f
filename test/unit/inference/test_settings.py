# SPDX-License-Identifier: Apache-2.0
"""Checks of estimator settings."""

import math

import pytest

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import SettingsError
from dualfocus_ros.inference.settings import EstimatorSettings

LENS = Lens(0.016, 1.4, 1.125e-5)


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'depth_min': 3.0, 'depth_max': 2.0}, 'below depth_max'),
        ({'max_sigma': -1.0}, 'max_sigma must be'),
        ({'edge_filter': -0.1}, 'edge_filter must be'),
        ({'breathing': 'magic'}, 'none, thin_lens, polynomial'),
        ({'breathing': 'thin_lens'}, 'needs lens'),
        ({'breathing': 'polynomial'}, 'needs breathing_coefficients'),
        ({'breathing_centre_drift': (0.01, 0.0)}, "'thin_lens' or 'polynomial'"),
        ({'breathing_centre_drift': (0.01,)}, 'two numbers'),
        ({'alignment': 'maybe'}, 'off, flag, correct'),
        ({'max_motion': 0.0}, 'max_motion must be positive'),
        ({'kappa': -1.0}, 'kappa must be 0'),
        ({'field_curvature': (0.3,)}, 'field_curvature: expected two numbers'),
        ({'field_curvature': (math.nan, 0.0)}, 'field_curvature: expected two numbers'),
        ({'kappa': 32.0, 'lens': LENS}, 'it is 16.3: correct one of them'),
    ],
)
def test_rejects_invalid_and_contradictory_settings(values, text):
    with pytest.raises(SettingsError, match=text) as raised:
        EstimatorSettings(**values)
    assert set(values) <= set(raised.value.fields) | {'depth_max'}


def test_errors_can_name_parameters_of_another_interface():
    names = {'breathing': 'breathing.model', 'lens': 'lens.focal_length and lens.f_number'}
    with pytest.raises(SettingsError) as raised:
        EstimatorSettings(breathing='thin_lens')
    assert raised.value.with_names(names) == (
        "breathing.model 'thin_lens' needs lens.focal_length and lens.f_number"
    )
