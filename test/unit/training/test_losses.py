# SPDX-License-Identifier: Apache-2.0
"""Training losses: zeros, masks, weights, gradients."""

import pytest
import torch

from dualfocus_ros.models import CONFIGURATIONS, DualFocus, DualFocusConfig
from dualfocus_ros.models.projection import forward_differences
from dualfocus_ros.training.losses import (
    PAPER_LOSS,
    LossWeights,
    dualfocus_loss,
    focal_constraint,
    masked_pool,
    sharpness_weights,
    sigma_quantile_loss,
    spatial_constraint,
)


def column(*values: float) -> torch.Tensor:
    """Return the focus probability (1, N, 1, 1) of a single pixel."""
    return torch.tensor(values).view(1, -1, 1, 1)


ONE_PIXEL = torch.ones(1, 1, 1, dtype=torch.bool)


@pytest.mark.parametrize('p', [(0.1, 0.2, 0.7), (0.6, 0.3, 0.1), (0.2, 0.5, 0.3), (0.5, 0.5, 0.0)])
def test_focal_constraint_is_zero_for_one_peak(p):
    assert focal_constraint(column(*p), ONE_PIXEL) == 0.0


def test_focal_constraint_sums_squared_violations():
    # Peak at index 3; the fall from 0.3 to 0.1 before it is a violation.
    found = focal_constraint(column(0.3, 0.1, 0.2, 0.4), ONE_PIXEL)
    assert found.item() == pytest.approx(0.2**2)


def test_sharpness_weights_need_a_temperature():
    position = torch.linspace(0, 1, 5)[None]
    target = torch.full((1, 1, 1), 0.5)
    ours = sharpness_weights(position, target)[0, :, 0, 0]
    printed = sharpness_weights(position, target, temperature=1.0)[0, :, 0, 0]
    assert ours.argmax() == 2 and ours[2] > 0.7
    assert printed[2] < 0.3
    assert ours.sum().item() == pytest.approx(1.0)


def test_spatial_constraint_is_zero_for_true_gradients():
    target = torch.rand(2, 6, 8)
    gradients = torch.stack(forward_differences(target), dim=1)[:, None].expand(-1, 3, -1, -1, -1)
    position = torch.linspace(0, 1, 3).repeat(2, 1)
    valid = torch.ones_like(target, dtype=torch.bool)
    assert spatial_constraint(gradients, position, target, valid).item() < 1e-6
    assert spatial_constraint(gradients + 0.1, position, target, valid).item() == pytest.approx(
        0.1, rel=1e-4
    )


def test_spatial_constraint_ignores_differences_across_holes():
    target = torch.zeros(1, 4, 4)
    target[0, 1, 1] = 100.0
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, 1, 1] = False
    gradients = torch.zeros(1, 2, 2, 4, 4)
    assert spatial_constraint(gradients, torch.tensor([[0.0, 1.0]]), target, valid) == 0.0


def test_masked_pool_averages_valid_values_only():
    target = torch.tensor([[[1.0, 3.0], [99.0, 99.0]]])
    valid = torch.tensor([[[True, True], [False, False]]])
    mean, kept = masked_pool(target, valid, 2)
    assert mean.item() == pytest.approx(2.0) and kept.all()
    valid[0, 0, 1] = False
    assert not masked_pool(target, valid, 2)[1].any()


def test_sigma_loss_is_minimal_at_68_percent_coverage():
    torch.manual_seed(0)
    # Outliers as at depth edges, which must not increase sigma.
    error = torch.randn(1, 100, 100).abs()
    error[:, :10] *= 50.0
    valid = torch.ones_like(error, dtype=torch.bool)
    tried = torch.linspace(0.5, 3.0, 251)
    costs = [sigma_quantile_loss(error, torch.full_like(error, float(s)), valid) for s in tried]
    best = tried[int(torch.stack(costs).argmin())]
    assert float((error < best).float().mean()) == pytest.approx(0.6827, abs=0.005)
    valid[:, :10] = False
    masked = [sigma_quantile_loss(error, torch.full_like(error, float(s)), valid) for s in tried]
    assert float(tried[int(torch.stack(masked).argmin())]) == pytest.approx(1.0, abs=0.03)


def test_pixels_beyond_the_sweep_have_no_loss():
    torch.manual_seed(0)
    network = DualFocus()
    focus = torch.tensor([[0.2, 1.0, 2.0]])
    prediction = network(torch.rand(1, 3, 3, 32, 32), focus)
    truth = torch.full((1, 32, 32), 1.0)
    valid = torch.ones_like(truth, dtype=torch.bool)
    loss, terms = dualfocus_loss(prediction, focus, truth, valid, LossWeights())
    assert torch.isfinite(loss)
    beyond = truth.clone()
    beyond[:, :16] = 50.0
    _, fewer = dualfocus_loss(prediction, focus, beyond, valid, LossWeights())
    below = valid.clone()
    below[:, :16] = False
    _, masked = dualfocus_loss(prediction, focus, truth, below, LossWeights())
    assert fewer['depth'].item() == pytest.approx(masked['depth'].item())
    assert set(terms) == {'depth', 'coarse', 'spatial', 'focal', 'sigma', 'error'}


def test_summed_constraints_scale_with_the_image_size():
    torch.manual_seed(1)
    p = torch.softmax(torch.randn(1, 5, 8, 8), dim=1)
    larger = p.repeat(1, 1, 2, 2)
    small, large = torch.ones(1, 8, 8, dtype=torch.bool), torch.ones(1, 16, 16, dtype=torch.bool)
    mean = focal_constraint(p, small)
    assert focal_constraint(larger, large).item() == pytest.approx(mean.item(), rel=1e-5)
    assert focal_constraint(p, small, summed=True).item() == pytest.approx(64 * mean.item())
    assert focal_constraint(larger, large, summed=True).item() == pytest.approx(256 * mean.item())


def test_paper_loss_of_the_network_in_metres():
    torch.manual_seed(0)
    network = DualFocus(CONFIGURATIONS['dualfocus-paper'])
    focus = torch.tensor([[0.4, 0.8, 1.6]])
    prediction = network(torch.rand(1, 3, 3, 32, 32), focus)
    assert torch.allclose(prediction.positions, 1.0 / focus)
    truth = torch.full((1, 32, 32), 1.0)
    valid = torch.ones_like(truth, dtype=torch.bool)
    loss, terms = dualfocus_loss(prediction, focus, truth, valid, PAPER_LOSS, 'metres')
    # Smooth-L1 with beta 1 is half the square for errors below a metre.
    error = prediction.value - 1.0
    expected = torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5).mean()
    assert terms['depth'].item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None]
    assert missing == []


def test_network_without_surfaces_has_no_spatial_loss():
    network = DualFocus(DualFocusConfig(surfaces=0))
    focus = torch.tensor([[0.2, 1.0, 2.0]])
    prediction = network(torch.rand(1, 3, 3, 32, 32), focus)
    truth = torch.full((1, 32, 32), 1.0)
    _, terms = dualfocus_loss(prediction, focus, truth, torch.isfinite(truth), LossWeights())
    assert terms['spatial'] == 0.0
