# SPDX-License-Identifier: Apache-2.0
"""The network: any stack it is given has a defined answer, or a clear error."""

import pytest
import torch

from dualfocus_ros.network import DualFocus
from dualfocus_ros.network.fuse import fuse
from dualfocus_ros.network.layers import FocalConv, differential_volume


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    model = DualFocus()
    # Statistics away from their initial 0 and 1, so that mistakes in fusing them would show.
    with torch.no_grad():
        model.train()
        for _ in range(3):
            model(torch.rand(2, 4, 3, 64, 64), torch.linspace(0.2, 2.0, 4).repeat(2, 1))
    return model.eval()


@pytest.mark.parametrize('planes', [2, 3, 7, 32])
@pytest.mark.parametrize('size', [(48, 64), (37, 51)])
def test_any_number_of_planes_and_size(network, planes, size):
    dioptres = torch.linspace(0.2, 3.0, planes)[None]
    with torch.inference_mode():
        prediction = network(torch.rand(1, planes, 3, *size), dioptres)
    assert prediction.dioptres.shape == (1, *size)
    assert prediction.sigma.shape == (1, *size)
    assert prediction.probability.shape == (1, planes, *size)
    assert torch.allclose(prediction.probability.sum(dim=1), torch.ones(1, *size), atol=1e-5)
    assert prediction.dioptres.min() >= 0.2 - 1e-5
    assert prediction.dioptres.max() <= 3.0 + 1e-5
    assert (prediction.sigma > 0).all()


def test_order_of_planes_does_not_matter(network):
    images, dioptres = torch.rand(1, 5, 3, 48, 48), torch.tensor([[0.1, 0.6, 1.0, 1.9, 2.2]])
    shuffle = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        expected = network(images, dioptres)
        found = network(images[:, shuffle], dioptres[:, shuffle])
    assert torch.allclose(found.dioptres, expected.dioptres, atol=1e-5)
    assert torch.allclose(found.probability, expected.probability[:, shuffle], atol=1e-5)


def test_depends_on_the_sweep_only_up_to_an_affine_map(network):
    images, dioptres = torch.rand(1, 4, 3, 32, 32), torch.tensor([[0.2, 0.5, 1.1, 1.4]])
    with torch.inference_mode():
        expected = network(images, dioptres)
        found = network(images, 7.0 + 3.0 * dioptres)
    assert torch.allclose(found.dioptres, 7.0 + 3.0 * expected.dioptres, atol=1e-3)


def test_batch_equals_one_by_one(network):
    images = torch.rand(3, 4, 3, 32, 48)
    dioptres = torch.tensor([[0.2, 0.5, 1.1, 1.4], [2.0, 1.0, 0.5, 0.1], [0.0, 1.0, 2.0, 4.0]])
    with torch.inference_mode():
        together = network(images, dioptres).dioptres
        alone = [network(images[i : i + 1], dioptres[i : i + 1]).dioptres[0] for i in range(3)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


def test_fused_network_computes_the_same(network):
    images, dioptres = torch.rand(1, 5, 3, 64, 64), torch.linspace(0.1, 2.0, 5)[None]
    with torch.inference_mode():
        expected, found = network(images, dioptres), fuse(network)(images, dioptres)
    assert torch.allclose(found.dioptres, expected.dioptres, atol=1e-4)
    assert torch.allclose(found.sigma, expected.sigma, atol=1e-4)
    kinds = {type(module) for module in fuse(network).encoder.modules()}
    assert torch.nn.BatchNorm2d not in kinds


def test_every_parameter_gets_a_gradient():
    model = DualFocus()
    prediction = model(torch.rand(1, 3, 3, 48, 48), torch.tensor([[0.2, 1.0, 2.0]]))
    loss = (
        prediction.dioptres.square().mean()
        + prediction.sigma.mean()
        + prediction.gradients.abs().mean()
        + prediction.coarse_probability[:, 0].mean()
    )
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_differential_volume_is_forward_then_backward_at_the_end():
    features = torch.tensor([1.0, 3.0, 7.0]).view(3, 1, 1, 1)
    volume = differential_volume(features, planes=3)[:, :, 0, 0]
    assert volume.tolist() == [[1.0, 2.0], [3.0, 4.0], [7.0, 4.0]]


def test_focal_convolution_equals_conv3d():
    torch.manual_seed(1)
    layer = FocalConv(3, 5)
    kernel = layer.taps.weight.view(3, 5, 3).permute(1, 2, 0)[..., None, None]
    x = torch.randn(2 * 4, 3, 6, 7)
    volume = x.view(2, 4, 3, 6, 7).transpose(1, 2)
    expected = torch.nn.functional.conv3d(volume, kernel, padding=(1, 0, 0))
    found = layer(x, planes=4).view(2, 4, 5, 6, 7).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('images', 'dioptres', 'text'),
    [
        (torch.rand(1, 1, 3, 32, 32), torch.ones(1, 1), 'at least 2'),
        (torch.rand(1, 3, 3, 32, 32), torch.ones(1, 3), 'same distance'),
        (torch.rand(1, 3, 1, 32, 32), torch.ones(1, 3), 'must be'),
        (torch.rand(1, 3, 3, 32, 32), torch.ones(1, 4), 'must be'),
        (torch.rand(1, 2, 3, 32, 32), torch.tensor([[0.1, float('nan')]]), 'finite'),
    ],
)
def test_bad_input_is_refused_in_words(network, images, dioptres, text):
    with pytest.raises(ValueError, match=text):
        network(images, dioptres)
