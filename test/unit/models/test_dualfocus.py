# SPDX-License-Identifier: Apache-2.0
"""DualFocus on any number, order and size of planes; invalid input."""

import pytest
import torch

from dualfocus_ros.models import CONFIGURATIONS, DualFocus, DualFocusConfig
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.layers import (
    fold_batch_norm,
    smooth3x3,
)
from networks import random_network

# Each switch of the configuration once, with small widths.
SMALL = {'encoder': (8, 8, 12, 16), 'volume': (6, 8, 8), 'decoder': (8, 8, 12), 'surfaces': 4}
VARIANTS = {
    'lite': DualFocusConfig(**SMALL),
    'without projection': DualFocusConfig(**{**SMALL, 'surfaces': 0}),
    'without measures': DualFocusConfig(**SMALL, measures=False, learned_sigma=False),
    'without conditioning': DualFocusConfig(**SMALL, conditioning=False),
    'with a fine level': DualFocusConfig(**SMALL, fine=4),
    'without keys': DualFocusConfig(**SMALL, keys=0),
    'without window': DualFocusConfig(**SMALL, window=False),
    'smoothed': DualFocusConfig(**SMALL, smoothing=0.5),
    'whole 3-D convolutions': DualFocusConfig(**SMALL, full_3d=True),
    'in metres': DualFocusConfig(**SMALL, unit='metres'),
    'as published': CONFIGURATIONS['dualfocus-paper'],
}


@pytest.fixture(scope='module')
def network():
    return random_network(DualFocusConfig())


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_predicts_within_the_sweep(variant):
    config = VARIANTS[variant]
    model = random_network(config)
    images = torch.rand(2, 3, 3, 40, 56)
    dioptres = torch.tensor([[0.2, 1.0, 2.0], [3.0, 1.0, 0.5]])
    with torch.inference_mode():
        prediction, folded = model(images, dioptres), fold_batch_norm(model)(images, dioptres)
    assert prediction.dioptres.shape == prediction.sigma.shape == (2, 40, 56)
    assert torch.allclose(folded.dioptres, prediction.dioptres, atol=1e-4)
    assert prediction.gradients is None
    learned = model(images, dioptres).gradients
    assert (learned is None) == (config.surfaces == 0)
    for stack, focus in zip(prediction.dioptres, dioptres):
        assert focus.min() - 1e-4 <= stack.min() and stack.max() <= focus.max() + 1e-4
    expected = dioptres if config.unit == 'dioptres' else 1.0 / dioptres
    value = (prediction.probability * expected[..., None, None]).sum(dim=1)
    found = prediction.dioptres if config.unit == 'dioptres' else 1.0 / prediction.dioptres
    assert torch.allclose(found, value, atol=1e-4)


@pytest.mark.parametrize('fine', [0, 4])
def test_planes_can_be_encoded_one_by_one(fine):
    network = random_network(DualFocusConfig(**SMALL, fine=fine))
    images, dioptres = torch.rand(4, 3, 45, 60), torch.tensor([[0.9, 0.1, 1.6, 2.2]])
    with torch.inference_mode():
        expected = network(images[None], dioptres)
        features = PlaneFeatures.join([network.encode(image[None]) for image in images])
        found = network.decode(features, dioptres, (45, 60))
    assert torch.allclose(found.dioptres, expected.dioptres, atol=1e-4)
    assert torch.allclose(found.sigma, expected.sigma, atol=1e-4)


def test_depth_is_float32_under_autocast(network):
    images, dioptres = torch.rand(1, 4, 3, 64, 64), torch.tensor([[0.2, 0.7, 1.4, 2.0]])
    with torch.inference_mode(), torch.autocast('cpu', dtype=torch.bfloat16):
        found = network(images, dioptres)
    assert found.dioptres.dtype == found.probability.dtype == torch.float32
    assert len(found.dioptres.unique()) > 0.9 * 64 * 64


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


def test_output_is_equivariant_to_affine_maps_of_focus(network):
    images, dioptres = torch.rand(1, 4, 3, 32, 32), torch.tensor([[0.2, 0.5, 1.1, 1.4]])
    with torch.inference_mode():
        expected = network(images, dioptres)
        found = network(images, 7.0 + 3.0 * dioptres)
    assert torch.allclose(found.dioptres, 7.0 + 3.0 * expected.dioptres, atol=1e-3)


def test_batch_equals_single_stacks(network):
    images = torch.rand(3, 4, 3, 32, 48)
    dioptres = torch.tensor([[0.2, 0.5, 1.1, 1.4], [2.0, 1.0, 0.5, 0.1], [0.0, 1.0, 2.0, 4.0]])
    with torch.inference_mode():
        batch = network(images, dioptres).dioptres
        single = [network(images[i : i + 1], dioptres[i : i + 1]).dioptres[0] for i in range(3)]
    assert torch.allclose(batch, torch.stack(single), atol=1e-4)


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
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_network_smooths_its_input():
    network = random_network(DualFocusConfig(**SMALL, smoothing=0.5))
    sharp = random_network(DualFocusConfig(**SMALL))
    torch.manual_seed(2)
    images, focus = torch.rand(1, 3, 3, 40, 52), torch.tensor([[0.2, 1.0, 2.0]])
    with torch.inference_mode():
        found = network(images, focus).dioptres
        softer = smooth3x3(images[0], 0.5)[None]
        torch.testing.assert_close(found, sharp(softer, focus).dioptres)
        assert (found - sharp(images, focus).dioptres).abs().max() > 1e-4


@pytest.mark.parametrize(
    ('images', 'dioptres', 'text'),
    [
        (torch.rand(1, 1, 3, 32, 32), torch.ones(1, 1), 'at least 2 planes'),
        (torch.rand(1, 3, 3, 32, 32), torch.ones(1, 3), 'same distance'),
        (torch.rand(1, 3, 1, 32, 32), torch.ones(1, 3), 'must be'),
        (torch.rand(1, 3, 3, 32, 32), torch.ones(1, 4), 'must be'),
        (torch.rand(1, 2, 3, 32, 32), torch.tensor([[0.1, float('nan')]]), 'finite'),
    ],
)
def test_invalid_input_is_refused(network, images, dioptres, text):
    with pytest.raises(ValueError, match=text):
        network(images, dioptres)


def test_order_of_dense_planes_does_not_matter(network):
    images, dioptres = torch.rand(1, 20, 3, 32, 32), torch.linspace(0.1, 2.0, 20)[None]
    order = torch.randperm(20)
    with torch.inference_mode():
        found = network(images, dioptres)
        shuffled = network(images[:, order], dioptres[:, order])
    assert torch.allclose(found.dioptres, shuffled.dioptres, atol=1e-5)
    assert torch.allclose(found.probability[:, order], shuffled.probability, atol=1e-5)
