# SPDX-License-Identifier: Apache-2.0
"""Adapters: losses, masks, ablations, units."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model
from dualfocus_ros.training.batches import Batch, draw_batch
from dualfocus_ros.training.losses import PAPER_LOSS, LossWeights
from dualfocus_ros.training.model_adapters import DFVAdapter, DualFocusAdapter, make_adapter
from dualfocus_ros.training.training_config import NetworkConfig
from small_training import ADAPTER, BATCH, NETWORK, no_autocast


def test_finetuning_takes_over_the_smoothing():
    shipped = load_model('dualfocus-lite').network
    assert shipped.config.smoothing > 0.0
    assert (
        make_adapter(NetworkConfig('dualfocus-lite')).for_finetuning(shipped).config
        == shipped.config
    )


def test_unknown_truth_has_no_loss(stacks):
    batch = draw_batch(np.random.default_rng(0), stacks, BATCH)
    holes = batch.truth.clone()
    holes[:, :20] = torch.nan
    network = ADAPTER.build()
    loss, terms = ADAPTER.loss(network, replace(batch, truth=holes), no_autocast)
    loss.backward()
    assert all(torch.isfinite(t).all() for t in terms.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
    whole = ADAPTER.loss(network, batch, no_autocast)[1]
    assert terms['error'] != whole['error']


def test_dfv_loss_is_a_weighted_sum_of_four_scales(stacks):
    batch = draw_batch(np.random.default_rng(0), stacks, BATCH)
    target = (batch.truth - batch.focus[:, :1, None]) / (
        batch.focus[:, -1:, None] - batch.focus[:, :1, None]
    )
    wrong = [0.1, 0.2, 0.3, 0.4]
    planes = []

    def network(images, focus):
        # Focus from far to near, normalised like the target.
        planes.append(focus)
        return [target + offset for offset in wrong]

    loss, terms = DFVAdapter(beta=0.03).loss(network, batch, no_autocast)
    # Smooth-L1 above beta is |e| - beta / 2.
    expected = sum(w * (e - 0.015) for w, e in zip((8, 4, 2, 1), wrong, strict=True)) / 15
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(terms['error']) == pytest.approx(0.1, rel=1e-3)
    assert (planes[0][:, 0] == 0).all() and (planes[0][:, -1] == 1).all()


def test_each_ablation_leaves_out_one_part():
    known = {'small': NETWORK}

    def make(*ablate, **changes):
        return make_adapter(NetworkConfig('small', ablate, **changes), known)

    whole = make()
    assert whole.weights == LossWeights() and whole.config == NETWORK
    spatial = make('spatial')
    assert spatial.weights == replace(LossWeights(), spatial=0.0) and spatial.config == NETWORK
    focal = make('focal')
    assert focal.weights == replace(LossWeights(), focal=0.0)
    projection = make('projection')
    assert projection.config == replace(NETWORK, surfaces=0) and projection.weights.spatial == 0.0
    assert make(paper_loss=True).weights == PAPER_LOSS
    with pytest.raises(ValueError, match="unknown configuration 'large'"):
        make_adapter(NetworkConfig('large'), known)
    with pytest.raises(ValueError, match='DFV has no focal'):
        make_adapter(NetworkConfig('dfv', ('focal',)))


@pytest.mark.parametrize('ablate', [(), ('projection',), ('spatial', 'focal')])
@pytest.mark.parametrize('name', [*CONFIGURATIONS, 'dfv'])
def test_loss_has_a_gradient_for_every_parameter(name, ablate):
    """Distributed training waits for the gradient of each parameter."""
    if name == 'dfv' and ablate:
        pytest.skip('DFV has no such parts')
    adapter = make_adapter(NetworkConfig(name, ablate))
    network = adapter.build()
    rng = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.rand((2, 2, 3, 32, 32), generator=rng),
        torch.tensor([[0.3, 1.5]] * 2),
        torch.full((2, 32, 32), 0.8),
    )
    loss, terms = adapter.loss(network, batch, no_autocast)
    loss.backward()
    assert torch.isfinite(loss) and terms['error'] >= 0.0
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('unit', ['dioptres', 'metres'])
def test_networks_of_both_units_estimate_positions(unit):
    """Positions below 0 are beyond infinity for a network in metres."""
    adapter = DualFocusAdapter(replace(NETWORK, unit=unit), LossWeights())
    focus = torch.tensor([[-0.8, 0.1, 1.7]])
    position, sigma, _ = adapter.predict(
        adapter.build().eval(), torch.rand(1, 3, 3, 32, 32), focus
    )
    assert position.min() >= -0.8 and position.max() <= 1.7
    assert torch.isfinite(sigma).all() and (sigma >= 0.0).all()
