# SPDX-License-Identifier: Apache-2.0
"""Fit of sigma: coverage of 68 %, unchanged depth."""

import pytest
import torch

from dualfocus_ros.training import sigma_fit
from dualfocus_ros.training.model_adapters import make_adapter
from dualfocus_ros.training.sigma_fit import PIXELS_PER_CROP, collect_sigma_samples, fit_sigma
from dualfocus_ros.training.training_config import NetworkConfig
from small_training import ADAPTER, BATCH, pool_source


def test_fit_of_sigma_covers_68_percent_and_keeps_depth(pool, monkeypatch):
    monkeypatch.setattr(sigma_fit, 'STEPS', 1000)
    torch.manual_seed(1)
    network = ADAPTER.build().eval()
    network.sigma.scale(0.05)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = pool_source(pool)
    samples = collect_sigma_samples(network, data, 6, 1, lambda: None)
    assert len(samples.error) == 6 * BATCH.size * PIXELS_PER_CROP
    assert samples.inputs.shape == (len(samples.error), network.sigma.layers[0].in_channels)

    def covered():
        with torch.no_grad():
            correction = network.sigma.layers(samples.inputs.T[None, :, :, None])[0, 0, :, 0]
        return float((samples.error < (samples.log_spread + correction).exp()).float().mean())

    assert covered() < 0.4
    fit_sigma(network, samples, 1, lambda: None)
    assert covered() == pytest.approx(0.6827, abs=0.02)
    after = network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed and all(name.startswith('sigma.') for name in changed), changed
    # Fitted weights give valid predictions of the network.
    batch = data.batch(0)
    with torch.no_grad():
        sigma = network(batch.images, batch.focus).value_sigma
    assert torch.isfinite(sigma).all() and (sigma > 0.0).all()


def test_network_without_learned_sigma_cannot_be_fitted(pool):
    with pytest.raises(ValueError, match='no learned sigma'):
        collect_sigma_samples(
            make_adapter(NetworkConfig('dualfocus-paper')).build(),
            pool_source(pool),
            1,
            1,
            lambda: None,
        )
