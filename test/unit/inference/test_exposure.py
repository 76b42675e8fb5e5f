# SPDX-License-Identifier: Apache-2.0
"""Rounding of exposure gains, and sigma at overexposed pixels."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from dualfocus_ros.inference.exposure import (
    GAIN_TOLERANCE,
    PatchBrightness,
    exposure_gains,
    inflate_sigma_where_overexposed,
    round_gain,
)
from dualfocus_ros.models.dualfocus import Prediction


def test_sigma_grows_with_the_overexposed_focus_probability():
    probability = torch.tensor([0.1, 0.7, 0.2])[None, :, None, None].expand(1, 3, 1, 4)
    sigma = torch.full((1, 1, 4), 0.02)
    nothing = {field.name: torch.empty(0) for field in fields(Prediction)}
    prediction = Prediction(**{**nothing, 'sigma': sigma, 'probability': probability})
    overexposed = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]).float()[:, None]
    inflated = inflate_sigma_where_overexposed(prediction, overexposed).sigma[0, 0]
    torch.testing.assert_close(inflated, 0.02 * torch.tensor([1.0, 1.1, 1.7, 2.0]))


@pytest.mark.parametrize('gain', [0.9902, 0.995, 1.0, 1.005, 1.0099])
def test_gains_within_one_percent_of_one_are_one(gain):
    assert round_gain(gain) == 1.0


def test_rounding_changes_a_gain_by_at_most_one_percent():
    gains = np.geomspace(0.25, 4.0, 999)
    rounded = np.array([round_gain(gain) for gain in gains])
    assert np.abs(np.log(rounded / gains)).max() <= np.log1p(GAIN_TOLERANCE) * (1 + 1e-9)
    assert len(np.unique(rounded)) < 150
    assert all(round_gain(gain) == gain for gain in np.unique(rounded))


def test_gains_are_rounded_medians_of_usable_patches():
    light = np.full((6, 8), 0.3, np.float32)
    usable = np.ones((6, 8), bool)
    darker = PatchBrightness(0.5 * light, usable)
    few = PatchBrightness(0.5 * light, usable & (np.arange(8) == 0))
    other_scene = PatchBrightness(0.1 * light, usable)
    planes = [darker, few, other_scene, PatchBrightness(light, usable)]
    gains = exposure_gains(planes, 3)
    np.testing.assert_allclose(gains, [2.0, 1.0, 1.0, 1.0], rtol=GAIN_TOLERANCE)
    assert gains[0] == round_gain(2.0)
