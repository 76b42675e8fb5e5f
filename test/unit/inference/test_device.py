# SPDX-License-Identifier: Apache-2.0
"""Names of devices and precisions."""

import pytest
import torch

from dualfocus_ros.exceptions import DeviceError
from dualfocus_ros.inference.device import resolve_device, resolve_precision


def test_rejects_unknown_devices_and_precisions():
    with pytest.raises(DeviceError, match='auto, cuda, cuda:N or cpu'):
        resolve_device('gpu')
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match='sees 0 CUDA devices'):
            resolve_device('cuda:0')
    with pytest.raises(DeviceError, match='auto, fp32, fp16, bf16'):
        resolve_precision('half', torch.device('cpu'))
    with pytest.raises(DeviceError, match='is for CUDA'):
        resolve_precision('fp16', torch.device('cpu'))
