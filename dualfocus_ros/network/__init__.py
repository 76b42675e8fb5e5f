# SPDX-License-Identifier: Apache-2.0
"""The DualFocus network, its losses and its weights. Imports no ROS."""

from dualfocus_ros.network.configurations import CONFIGURATIONS, DualFocusConfig
from dualfocus_ros.network.model import DualFocus, Prediction
from dualfocus_ros.network.weights import LoadedModel, WeightsError, load_model

__all__ = [
    'CONFIGURATIONS',
    'DualFocus',
    'DualFocusConfig',
    'LoadedModel',
    'Prediction',
    'WeightsError',
    'load_model',
]
