# SPDX-License-Identifier: Apache-2.0
"""Folding of batch normalisation."""

import pytest
import torch

from dualfocus_ros.models import DualFocusConfig
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from networks import random_network


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
