# SPDX-License-Identifier: Apache-2.0
"""Networks, their weights and ONNX export."""

from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.dualfocus import DualFocus, Prediction
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS, DualFocusConfig
from dualfocus_ros.models.weights import LoadedModel, load_model

__all__ = [
    'CONFIGURATIONS',
    'DualFocus',
    'DualFocusConfig',
    'LoadedModel',
    'Prediction',
    'WeightsError',
    'load_model',
]
