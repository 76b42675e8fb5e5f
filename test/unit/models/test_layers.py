# SPDX-License-Identifier: Apache-2.0
"""Layers are equal to reference operations of PyTorch."""

import pytest
import torch

from dualfocus_ros.models import DualFocusConfig
from dualfocus_ros.models.layers import (
    FocalConv,
    conv_to_one_channel,
    differential_volume,
    downsample2x,
    fold_batch_norm,
    smooth3x3,
)
from networks import random_network


def test_last_plane_of_the_volume_has_a_backward_difference():
    features = torch.tensor([1.0, 3.0, 7.0]).view(3, 1, 1, 1)
    volume = differential_volume(features, planes=3)[:, :, 0, 0]
    assert volume.tolist() == [[1.0, 2.0], [3.0, 4.0], [7.0, 4.0]]


@pytest.mark.parametrize('bias', [True, False])
def test_convolution_to_one_channel_by_shifted_sums_is_equal(bias):
    torch.manual_seed(1)
    layer = torch.nn.Conv2d(5, 1, 3, padding=1, bias=bias)
    x = torch.randn(4, 5, 6, 7).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = x.clone()
        torch.testing.assert_close(conv_to_one_channel(layer, x), layer(x), rtol=1e-5, atol=1e-6)
        assert torch.equal(x, before)
        half = conv_to_one_channel(layer.bfloat16(), x.bfloat16())
        assert torch.equal(half, layer(x.bfloat16()))


@pytest.mark.parametrize('size', [(6, 8), (5, 8), (6, 7), (1, 3)])
def test_downsampling_equals_average_pooling(size):
    torch.manual_seed(1)
    x = torch.randn(2, 3, *size)
    expected = torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)
    torch.testing.assert_close(downsample2x(x), expected)


def test_smoothing_kernel_has_the_given_deviation():
    spot = torch.zeros(1, 1, 5, 7)
    spot[..., 2, 3] = 1.0
    found = smooth3x3(spot, 0.5)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(5) - 2.0, torch.arange(7) - 3.0, indexing='ij')
    assert found.sum() == pytest.approx(1.0)
    for offset in (rows, columns):
        assert (found * offset).sum() == pytest.approx(0.0, abs=1e-7)
        assert (found * offset.square()).sum().sqrt() == pytest.approx(0.5)
    assert torch.equal(smooth3x3(spot, 0.0), spot)
    # Uniform images stay uniform up to the border.
    torch.testing.assert_close(smooth3x3(torch.ones(1, 3, 4, 5), 0.7), torch.ones(1, 3, 4, 5))


@pytest.mark.parametrize('size', [1, 3])
def test_focal_convolution_equals_conv3d(size):
    torch.manual_seed(1)
    layer = FocalConv(3, 5, size)
    kernel = layer.taps.weight.view(3, 5, 3, size, size).permute(1, 2, 0, 3, 4)
    x = torch.randn(2 * 4, 3, 6, 7)
    volume = x.view(2, 4, 3, 6, 7).transpose(1, 2)
    expected = torch.nn.functional.conv3d(volume, kernel, padding=(1, size // 2, size // 2))
    found = layer(x, planes=4).view(2, 4, 5, 6, 7).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.fixture(scope='module')
def network():
    return random_network(DualFocusConfig())


def test_folded_network_is_equal(network):
    images, dioptres = torch.rand(1, 5, 3, 64, 64), torch.linspace(0.1, 2.0, 5)[None]
    with torch.inference_mode():
        expected, found = network(images, dioptres), fold_batch_norm(network)(images, dioptres)
    assert torch.allclose(found.dioptres, expected.dioptres, atol=1e-4)
    assert torch.allclose(found.sigma, expected.sigma, atol=1e-4)
    kinds = {type(module) for module in fold_batch_norm(network).encoder.modules()}
    assert torch.nn.BatchNorm2d not in kinds
