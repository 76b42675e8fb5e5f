# SPDX-License-Identifier: Apache-2.0
"""Networks with random weights and statistics."""

from __future__ import annotations

import torch

from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import DualFocusConfig


def random_network(config: DualFocusConfig, seed: int = 0) -> DualFocus:
    """Return a network in evaluation mode with random batch-norm statistics."""
    torch.manual_seed(seed)
    network = DualFocus(config)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()
