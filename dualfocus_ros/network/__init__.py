# SPDX-License-Identifier: Apache-2.0
"""The DualFocus network, its losses and its weights. Imports no ROS."""

from dualfocus_ros.network.model import DualFocus, DualFocusConfig, Prediction
from dualfocus_ros.network.weights import LoadedModel, WeightsError, load_model

__all__ = [
    'DualFocus',
    'DualFocusConfig',
    'LoadedModel',
    'Prediction',
    'WeightsError',
    'load_model',
]
