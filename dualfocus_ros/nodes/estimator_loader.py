# SPDX-License-Identifier: Apache-2.0
"""Loading of the estimator, with the CPU as fallback for a GPU that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.stack_processor import Estimator, describe_error


class EstimatorLoader:
    """Loads the estimator of one configuration of the node; used on the worker's thread.

    :param load: makes the estimator from the parameters.
    """

    def __init__(
        self,
        load: Callable[[DepthNodeSettings], Estimator],
        settings: DepthNodeSettings,
        logger: Any,
    ) -> None:
        self._load = load
        self._settings = settings
        self._logger = logger
        self.estimator: Estimator | None = None
        # Reason for running on the CPU instead of the GPU.
        self.fallback: str | None = None
        # Reason why the GPU is lost and no fallback is allowed.
        self.gpu_loss: str | None = None

    def load(self) -> Estimator:
        """Load for the requested device; for the CPU where ``auto`` found a GPU that fails."""
        self.estimator = None
        self.estimator = self._load_with_fallback()
        return self.estimator

    def should_reload(self, error: BaseException) -> bool:
        """Return whether ``load`` can replace an estimator that failed with this error."""
        if classify_gpu_error(error) is not GpuFault.LOST or self.gpu_loss is not None:
            return False
        if self._settings.device == 'auto' and self.fallback is None:
            self._fall_back_to_cpu(error)
            return True
        self.gpu_loss = (
            f'the GPU cannot be used any more in this process: {describe_error(error)}; restart '
            'the process, or set device to auto to continue on the CPU'
        )
        return False

    def _load_with_fallback(self) -> Estimator:
        settings = self._settings
        if self.fallback is None:
            try:
                return self._load(settings)
            except RuntimeError as error:
                if settings.device != 'auto' or classify_gpu_error(error) is None:
                    raise
                self._fall_back_to_cpu(error)
        precision = 'auto' if settings.precision == 'fp16' else settings.precision
        return self._load(replace(settings, device='cpu', precision=precision))

    def _fall_back_to_cpu(self, error: BaseException) -> None:
        self.fallback = (
            f'on the CPU, because the GPU cannot be used: {describe_error(error)}; restart this '
            'process to use the GPU again'
        )
        self._logger.error(self.fallback)
