# SPDX-License-Identifier: Apache-2.0
"""The sRGB curve and its tables."""

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.srgb import decode_srgb8, encode_srgb8, linear_to_srgb, srgb_to_linear


def test_curve_has_its_inverse_and_the_standard_values():
    encoded = torch.linspace(0.0, 1.0, 301)
    assert (linear_to_srgb(srgb_to_linear(encoded)) - encoded).abs().max() < 1e-6
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-5)
    assert linear_to_srgb(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([0.0, 1.0])


def test_gradient_is_finite_in_the_dark():
    light = torch.zeros(3, requires_grad=True)
    linear_to_srgb(light).sum().backward()
    assert torch.isfinite(light.grad).all()


def test_tables_agree_with_the_curve():
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(encode_srgb8(decode_srgb8(codes)), codes)
    light = np.linspace(-0.1, 1.1, 5001, dtype=np.float32)
    exact = linear_to_srgb(torch.from_numpy(light)).numpy() * 255.0
    assert np.abs(encode_srgb8(light) - exact).max() <= 0.51 + 0.3
    with pytest.raises(ValueError, match='uint8'):
        decode_srgb8(light)
