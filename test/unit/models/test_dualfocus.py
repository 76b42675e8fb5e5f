# SPDX-License-Identifier: Apache-2.0
"""The network: any stack it is given has a defined answer, or a clear error."""

import pytest
import torch

from dualfocus_ros.models import CONFIGURATIONS, DualFocus, DualFocusConfig
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from dualfocus_ros.models.decoder import (
    SMOOTHING_MIN_PLANES,
    FocusWindow,
    expectation,
    finish_difference_conv,
    precompute_difference_conv,
    smooth_along_focus,
)
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.layers import (
    FocalConv,
    conv_to_one_channel,
    differential_volume,
    downsample2x,
    smooth3x3,
)
from networks import random_network

# Every switch of the configuration once, at widths that a test can afford.
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


@pytest.mark.parametrize(
    ('name', 'least', 'most'),
    [('dualfocus', 5e6, 10e6), ('dualfocus-lite', 0.3e6, 1.5e6), ('dualfocus-paper', 26e6, 28e6)],
)
def test_sizes_of_the_configurations(name, least, most):
    parameters = sum(p.numel() for p in DualFocus(CONFIGURATIONS[name]).parameters())
    print(f'{name}: {parameters / 1e6:.2f} M parameters')
    assert least < parameters <= most


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_switch_gives_a_whole_network(variant):
    config = VARIANTS[variant]
    model = random_network(config)
    images = torch.rand(2, 3, 3, 40, 56)
    dioptres = torch.tensor([[0.2, 1.0, 2.0], [3.0, 1.0, 0.5]])
    with torch.inference_mode():
        prediction, fused = model(images, dioptres), fold_batch_norm(model)(images, dioptres)
    assert prediction.dioptres.shape == prediction.sigma.shape == (2, 40, 56)
    assert torch.allclose(fused.dioptres, prediction.dioptres, atol=1e-4)
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
def test_features_of_planes_can_be_kept(fine):
    network = random_network(DualFocusConfig(**SMALL, fine=fine))
    images, dioptres = torch.rand(4, 3, 45, 60), torch.tensor([[0.9, 0.1, 1.6, 2.2]])
    with torch.inference_mode():
        together = network(images[None], dioptres)
        kept = PlaneFeatures.join([network.encode(image[None]) for image in images])
        found = network.decode(kept, dioptres, (45, 60))
    assert torch.allclose(found.dioptres, together.dioptres, atol=1e-4)
    assert torch.allclose(found.sigma, together.sigma, atol=1e-4)


def test_window_leaves_one_peak_where_it_is_strong():
    window = FocusWindow(4)
    logits = torch.randn(1, 8, 8, 12)
    features, fraction = torch.zeros(1, 4, 2, 3), torch.linspace(0, 1, 8)[None]
    torch.nn.init.constant_(window.curvature.bias, 20.0)
    steps = window(logits, features, fraction).diff(dim=1)
    assert (steps.diff(dim=1) < 0).all()
    torch.nn.init.constant_(window.curvature.bias, -40.0)
    left = window(logits, features, fraction)
    assert torch.allclose(left.softmax(dim=1), logits.softmax(dim=1), atol=1e-5)


def test_expectation_is_exact_where_convolutions_are_not():
    probability = torch.softmax(torch.randn(2, 5, 6, 7), dim=1)
    values = torch.rand(2, 5).sort(dim=1).values
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = expectation(probability, values)
    assert found.dtype == torch.float32
    exact = (probability.double() * values[..., None, None]).sum(dim=1)
    assert (found - exact).abs().max() < 1e-6


def test_depth_has_more_steps_than_half_precision(network):
    images, dioptres = torch.rand(1, 4, 3, 64, 64), torch.tensor([[0.2, 0.7, 1.4, 2.0]])
    with torch.inference_mode(), torch.autocast('cpu', dtype=torch.bfloat16):
        found = network(images, dioptres)
    assert found.dioptres.dtype == found.probability.dtype == torch.float32
    assert len(found.dioptres.unique()) > 0.9 * 64 * 64


class TestDenseSweeps:
    @pytest.fixture(params=['even', 'uneven'])
    def fraction(self, request):
        """Return the planes of two sweeps from 0 to 1."""
        even = torch.linspace(0, 1, 32).expand(2, -1)
        return even if request.param == 'even' else even**1.6

    def test_what_is_linear_in_focus_stays(self, fraction):
        logits = (3.0 * fraction - 1.0)[..., None, None].expand(-1, -1, 3, 4)
        found = smooth_along_focus(logits, fraction)
        assert torch.allclose(found[:, 2:-2], logits[:, 2:-2], atol=1e-4)

    def test_a_spike_spreads_by_a_binomial_kernel_over_even_planes(self):
        logits = torch.zeros(1, 20, 1, 1)
        logits[:, 8] = 1.0
        found = smooth_along_focus(logits, torch.linspace(0, 1, 20)[None])[0, :, 0, 0]
        assert torch.allclose(found[6:11], torch.tensor([0, 0.25, 0.5, 0.25, 0]), atol=1e-5)
        assert found.sum() == pytest.approx(1.0)

    def test_planes_far_apart_share_less(self):
        fraction = torch.cat([torch.linspace(0, 0.5, 18), torch.tensor([0.9, 1.0])])[None]
        logits = torch.zeros(1, 20, 1, 1)
        logits[:, 17] = 1.0
        found = smooth_along_focus(logits, fraction)[0, :, 0, 0]
        assert 0.0 < found[18] < 0.02 < found[16]

    def test_planes_at_one_focus_share_evenly(self):
        fraction = torch.linspace(0, 1, 20)[None].clone()
        fraction[:, 8:11] = fraction[:, 9]
        logits = torch.randn(1, 20, 2, 3)
        found = smooth_along_focus(logits, fraction)
        assert found.isfinite().all()
        mean = 0.5 * logits[:, 9] + 0.25 * (logits[:, 8] + logits[:, 10])
        assert torch.allclose(found[:, 9], mean, atol=1e-3)

    def test_sweeps_that_are_not_dense_are_left_alone(self):
        for planes in (2, 5, SMOOTHING_MIN_PLANES[0] - 1):
            logits = torch.randn(1, planes, 2, 3)
            found = smooth_along_focus(logits, torch.linspace(0, 1, planes)[None])
            assert found is logits

    def test_noise_makes_fewer_peaks(self):
        torch.manual_seed(1)
        steps = torch.linspace(0, 31, 32)[:, None]
        logits = -0.02 * (steps - torch.linspace(8, 24, 500)) ** 2 + 0.03 * torch.randn(32, 500)
        logits = logits[None, :, None]
        smooth = smooth_along_focus(logits, torch.linspace(0, 1, 32)[None])

        def peaks(values):
            inner = values[0, 1:-1, 0]
            return ((inner > values[0, :-2, 0]) & (inner > values[0, 2:, 0])).sum(dim=0)

        assert (peaks(smooth) == 1).float().mean() > 0.95 > (peaks(logits) == 1).float().mean()

    def test_the_order_of_the_planes_does_not_matter(self, network):
        images, dioptres = torch.rand(1, 20, 3, 32, 32), torch.linspace(0.1, 2.0, 20)[None]
        order = torch.randperm(20)
        with torch.inference_mode():
            found = network(images, dioptres)
            shuffled = network(images[:, order], dioptres[:, order])
        assert torch.allclose(found.dioptres, shuffled.dioptres, atol=1e-5)
        assert torch.allclose(found.probability[:, order], shuffled.probability, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'trunk': 'vgg'}, "trunk must be one of light, resnet18, got 'vgg'"),
        ({'unit': 'feet'}, "unit must be one of dioptres, metres, got 'feet'"),
        ({'decoder': (8, 8)}, 'same number of levels'),
        ({'encoder': (8, 8, 8)}, '3 levels need 4 encoder widths'),
        ({'trunk': 'resnet18'}, 'resnet18 trunk has 4 levels'),
        ({'measures': False}, 'sigma needs the focus measures'),
    ],
)
def test_contradictory_configurations_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        DualFocusConfig(**changes)


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
        expected, found = network(images, dioptres), fold_batch_norm(network)(images, dioptres)
    assert torch.allclose(found.dioptres, expected.dioptres, atol=1e-4)
    assert torch.allclose(found.sigma, expected.sigma, atol=1e-4)
    kinds = {type(module) for module in fold_batch_norm(network).encoder.modules()}
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


@pytest.mark.parametrize('learning', [True, False])
@pytest.mark.parametrize(('batch', 'planes', 'kernel'), [(1, 5, 1), (2, 3, 3), (1, 2, 3)])
def test_a_convolution_of_the_volume_may_begin_with_single_planes(batch, planes, kernel, learning):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch * planes, 4, 6, 7, generator=generator)
    weight = torch.randn(5, 8, kernel, kernel, generator=generator)
    bias = torch.randn(5, generator=generator)
    volume = differential_volume(features, planes)
    expected = torch.nn.functional.conv2d(volume, weight, bias, padding=kernel // 2)
    with torch.set_grad_enabled(learning):
        begun = precompute_difference_conv(features, *weight.split(4, dim=1), bias)
        parts = begun.split(1) if batch == 1 else (begun,)
        found = finish_difference_conv(parts, planes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('bias', [True, False])
def test_a_convolution_to_one_channel_is_the_same_by_shifted_sums(bias):
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
def test_halving_is_pooling(size):
    torch.manual_seed(1)
    x = torch.randn(2, 3, *size)
    expected = torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)
    torch.testing.assert_close(downsample2x(x), expected)


def test_smoothing_has_the_deviation_that_it_is_given():
    spot = torch.zeros(1, 1, 5, 7)
    spot[..., 2, 3] = 1.0
    found = smooth3x3(spot, 0.5)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(5) - 2.0, torch.arange(7) - 3.0, indexing='ij')
    assert found.sum() == pytest.approx(1.0)
    for offset in (rows, columns):
        assert (found * offset).sum() == pytest.approx(0.0, abs=1e-7)
        assert (found * offset.square()).sum().sqrt() == pytest.approx(0.5)
    assert torch.equal(smooth3x3(spot, 0.0), spot)
    # What is even stays so up to the border.
    torch.testing.assert_close(smooth3x3(torch.ones(1, 3, 4, 5), 0.7), torch.ones(1, 3, 4, 5))


def test_a_network_that_smooths_sees_smoothed_images():
    network = random_network(DualFocusConfig(**SMALL, smoothing=0.5))
    sharp = random_network(DualFocusConfig(**SMALL))
    torch.manual_seed(2)
    images, focus = torch.rand(1, 3, 3, 40, 52), torch.tensor([[0.2, 1.0, 2.0]])
    with torch.inference_mode():
        found = network(images, focus).dioptres
        softer = smooth3x3(images[0], 0.5)[None]
        torch.testing.assert_close(found, sharp(softer, focus).dioptres)
        assert (found - sharp(images, focus).dioptres).abs().max() > 1e-4


@pytest.mark.parametrize('smoothing', [-0.1, 0.8, float('nan')])
def test_smoothing_beyond_its_kernel_is_refused(smoothing):
    with pytest.raises(ValueError, match='smoothing must be from 0'):
        DualFocusConfig(smoothing=smoothing)


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
def test_bad_input_is_refused_in_words(network, images, dioptres, text):
    with pytest.raises(ValueError, match=text):
        network(images, dioptres)
