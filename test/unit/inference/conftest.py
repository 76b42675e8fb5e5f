# SPDX-License-Identifier: Apache-2.0
"""Estimator with a small random network."""

import pytest
import torch

from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import DualFocusConfig
from dualfocus_ros.models.weights import save_model

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_model(path, DualFocus(SMALL).eval())
    return str(path)


@pytest.fixture
def estimator(weights):
    return DepthEstimator(weights, device='cpu', threads=1)
