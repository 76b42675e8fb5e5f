# SPDX-License-Identifier: Apache-2.0
"""Device, precision and threads of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import torch

from dualfocus_ros.evaluation.method_interface import PRECISION_NAMES
from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.inference.device import default_threads, resolve_device, resolve_precision


@dataclass(frozen=True)
class ComputeConfig:
    """Device, precision and threads.

    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
    :param threads: of a CPU; 0 for all processors but one.
    :raises ConfigError: for a negative number of threads.
    """

    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f'threads must not be negative, got {self.threads}')

    @property
    def torch_device(self) -> torch.device:
        """Device.

        :raises DeviceError: if it is unavailable.
        """
        return resolve_device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of DualFocus networks.

        :raises DeviceError: if the device lacks it.
        """
        return resolve_precision(self.precision, self.torch_device)

    @property
    def baseline_dtype(self) -> torch.dtype:
        """Number format of other networks: as published (fp32) for ``auto`` on a CPU."""
        if self.torch_device.type == 'cpu' and self.precision == 'auto':
            return torch.float32
        return self.dtype

    @property
    def format(self) -> str:
        """Name of :attr:`dtype`."""
        return PRECISION_NAMES[self.dtype]

    def set_threads(self) -> None:
        """Set the number of threads of PyTorch and OpenCV."""
        threads = self.threads or default_threads()
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
