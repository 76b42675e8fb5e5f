# SPDX-License-Identifier: Apache-2.0
"""Decoder: smoothing along focus, window, expectation, difference convolutions."""

import pytest
import torch

from dualfocus_ros.models.decoder import (
    SMOOTHING_MIN_PLANES,
    FocusWindow,
    expectation,
    smooth_along_focus,
)
from dualfocus_ros.models.layers import (
    differential_volume,
    finish_difference_conv,
    precompute_difference_conv,
)


class TestSmoothingAlongFocus:
    @pytest.fixture(params=['even', 'uneven'])
    def fraction(self, request):
        """Focus of the planes of two sweeps, from 0 to 1."""
        even = torch.linspace(0, 1, 32).expand(2, -1)
        return even if request.param == 'even' else even**1.6

    def test_logits_linear_in_focus_stay(self, fraction):
        logits = (3.0 * fraction - 1.0)[..., None, None].expand(-1, -1, 3, 4)
        found = smooth_along_focus(logits, fraction)
        assert torch.allclose(found[:, 2:-2], logits[:, 2:-2], atol=1e-4)

    def test_impulse_gives_a_binomial_kernel_in_an_even_sweep(self):
        logits = torch.zeros(1, 20, 1, 1)
        logits[:, 8] = 1.0
        found = smooth_along_focus(logits, torch.linspace(0, 1, 20)[None])[0, :, 0, 0]
        assert torch.allclose(found[6:11], torch.tensor([0, 0.25, 0.5, 0.25, 0]), atol=1e-5)
        assert found.sum() == pytest.approx(1.0)

    def test_distant_planes_have_small_weight(self):
        fraction = torch.cat([torch.linspace(0, 0.5, 18), torch.tensor([0.9, 1.0])])[None]
        logits = torch.zeros(1, 20, 1, 1)
        logits[:, 17] = 1.0
        found = smooth_along_focus(logits, fraction)[0, :, 0, 0]
        assert 0.0 < found[18] < 0.02 < found[16]

    def test_planes_at_equal_focus_have_equal_weight(self):
        fraction = torch.linspace(0, 1, 20)[None].clone()
        fraction[:, 8:11] = fraction[:, 9]
        logits = torch.randn(1, 20, 2, 3)
        found = smooth_along_focus(logits, fraction)
        assert found.isfinite().all()
        mean = 0.5 * logits[:, 9] + 0.25 * (logits[:, 8] + logits[:, 10])
        assert torch.allclose(found[:, 9], mean, atol=1e-3)

    def test_sparse_sweeps_are_not_smoothed(self):
        for planes in (2, 5, SMOOTHING_MIN_PLANES[0] - 1):
            logits = torch.randn(1, planes, 2, 3)
            found = smooth_along_focus(logits, torch.linspace(0, 1, planes)[None])
            assert found is logits

    def test_smoothing_removes_peaks_of_noise(self):
        torch.manual_seed(1)
        steps = torch.linspace(0, 31, 32)[:, None]
        logits = -0.02 * (steps - torch.linspace(8, 24, 500)) ** 2 + 0.03 * torch.randn(32, 500)
        logits = logits[None, :, None]
        smooth = smooth_along_focus(logits, torch.linspace(0, 1, 32)[None])

        def peaks(values):
            inner = values[0, 1:-1, 0]
            return ((inner > values[0, :-2, 0]) & (inner > values[0, 2:, 0])).sum(dim=0)

        assert (peaks(smooth) == 1).float().mean() > 0.95 > (peaks(logits) == 1).float().mean()


def test_window_of_large_curvature_leaves_one_peak():
    window = FocusWindow(4)
    logits = torch.randn(1, 8, 8, 12)
    features, fraction = torch.zeros(1, 4, 2, 3), torch.linspace(0, 1, 8)[None]
    torch.nn.init.constant_(window.curvature.bias, 20.0)
    steps = window(logits, features, fraction).diff(dim=1)
    assert (steps.diff(dim=1) < 0).all()
    torch.nn.init.constant_(window.curvature.bias, -40.0)
    left = window(logits, features, fraction)
    assert torch.allclose(left.softmax(dim=1), logits.softmax(dim=1), atol=1e-5)


def test_expectation_is_float32_under_autocast():
    probability = torch.softmax(torch.randn(2, 5, 6, 7), dim=1)
    values = torch.rand(2, 5).sort(dim=1).values
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = expectation(probability, values)
    assert found.dtype == torch.float32
    exact = (probability.double() * values[..., None, None]).sum(dim=1)
    assert (found - exact).abs().max() < 1e-6


@pytest.mark.parametrize('learning', [True, False])
@pytest.mark.parametrize(('batch', 'planes', 'kernel'), [(1, 5, 1), (2, 3, 3), (1, 2, 3)])
def test_precomputed_difference_convolution_is_equal(batch, planes, kernel, learning):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch * planes, 4, 6, 7, generator=generator)
    weight = torch.randn(5, 8, kernel, kernel, generator=generator)
    bias = torch.randn(5, generator=generator)
    volume = differential_volume(features, planes)
    expected = torch.nn.functional.conv2d(volume, weight, bias, padding=kernel // 2)
    with torch.set_grad_enabled(learning):
        partial = precompute_difference_conv(features, *weight.split(4, dim=1), bias)
        tensors = partial.split(1) if batch == 1 else (partial,)
        found = finish_difference_conv(tensors, planes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
