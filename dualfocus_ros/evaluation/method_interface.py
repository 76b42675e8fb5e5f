# SPDX-License-Identifier: Apache-2.0
"""Interface of the methods that are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.evaluation.cases import Case

PRECISION_NAMES = {torch.float32: 'fp32', torch.float16: 'fp16', torch.bfloat16: 'bf16'}


@dataclass(frozen=True, eq=False)
class Estimate:
    """Result of a method on a case, in positions.

    :param position: (H, W) float32; NaN where the method has no estimate.
    :param sigma: (H, W) standard deviation; None if the method has no uncertainty.
    :param probability: (N, H, W) in the order of the case's planes; None if the method has none.
    """

    position: np.ndarray
    sigma: np.ndarray | None = None
    probability: np.ndarray | None = None


class Method(ABC):
    """Depth method.

    ``name`` labels tables; ``about`` states the weights or the computation; ``weights`` is
    ``shipped``, ``file``, ``random`` or ``none``; ``precision`` is the number format;
    ``parameters`` is the number of trained parameters.
    """

    name: str
    about: str
    weights: str = 'none'
    precision: str = 'fp32'
    parameters: int = 0

    @abstractmethod
    def estimate(self, case: Case) -> Estimate:
        """Estimate the position of every pixel."""

    def run(self, images: np.ndarray, focus: np.ndarray) -> dict[str, float]:
        """Compute the depth of a stack once, for timing; return milliseconds by stage.

        :param images: (N, H, W, 3) uint8.
        :param focus: (N,) dioptres.
        """
        self.estimate(Case.without_truth(images, focus))
        return {}


def images_to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Return (N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8 or float32.

    :raises ValueError: for values that are not finite.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    if images.dtype == np.uint8:
        return tensor.float() / 255.0
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError('images contain values that are not finite')
    return tensor.float()
