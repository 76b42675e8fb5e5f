# SPDX-License-Identifier: Apache-2.0
"""Interface of the methods that are compared: case, estimate and method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.datasets.samples import METRIC_UNITS, StackSample

PRECISION_NAMES = {torch.float32: 'fp32', torch.float16: 'fp16', torch.bfloat16: 'bf16'}
# Metres; larger estimates count as this, as by default in the nodes.
MAX_DEPTH = 20.0


@dataclass(frozen=True, eq=False)
class Case:
    """Focal stack and ground truth.

    Methods estimate *positions*: inverse depth in dioptres, or another unit that is affine in it.

    :param images: (N, H, W, 3) uint8, or float32 in [0, 1] if a protocol does not quantise.
    :param focus: (N,) position of each plane.
    :param truth: (H, W) float32, metres if ``metric``, else a position; NaN pixels do not count.
    :param middle: position that follows from the focus list alone; the range-only control.
    :param limit: metres; truth and estimates are clipped to it.
    :param plane: rows and columns of a flat target, where position is linear in the pixels.
    """

    name: str
    images: np.ndarray
    focus: np.ndarray
    truth: np.ndarray
    middle: float
    metric: bool = True
    unit: str = 'm'
    position_unit: str = 'dioptres'
    limit: float | None = None
    plane: tuple[slice, slice] | None = None

    @classmethod
    def without_truth(cls, images: np.ndarray, focus: np.ndarray, name: str = '') -> Case:
        """Return a case in dioptres without ground truth."""
        truth = np.full(images.shape[1:3], np.nan, np.float32)
        return cls(name, images, focus, truth, float(np.mean(focus)))

    @property
    def truth_position(self) -> np.ndarray:
        """Ground truth as position, (H, W) float64, NaN where unknown."""
        truth = self.truth.astype(np.float64)
        return np.asarray(1.0 / truth) if self.metric else truth

    @property
    def has_ratios(self) -> bool:
        """Whether relative errors are defined: positive truth on a scale with a true zero."""
        return self.metric or self.unit == 'disparity'

    def value(self, position: np.ndarray) -> np.ndarray:
        """Convert positions to the unit of the truth; clip metres to ``limit`` or 20 m."""
        position = np.asarray(position, dtype=np.float64)
        if not self.metric:
            return position
        return np.asarray(1.0 / np.maximum(position, 1.0 / (self.limit or MAX_DEPTH)))


def evenly_spaced_planes(available: int, count: int) -> np.ndarray:
    """Return indices of evenly spaced planes, truncated as for DDFF 12-Scene: 0 2 4 6 9 of 10.

    :param count: planes to select; 0, or more than available, selects all.
    """
    if count <= 0 or count >= available:
        return np.arange(available)
    return np.linspace(0, available - 1, count).astype(int)


def case_from_stack(sample: StackSample, planes: int = 0) -> Case:
    """Return the case of a recorded stack, with at most ``planes`` planes (0: all)."""
    chosen = evenly_spaced_planes(len(sample.images), planes)
    focus = sample.focus[chosen].astype(np.float64)
    if sample.unit == 'metres':
        focus = 1.0 / focus
    case = Case.without_truth(sample.images[chosen], focus, sample.name)
    truth = case.truth if sample.truth is None else sample.truth
    if sample.limit is not None:
        truth = np.minimum(truth, sample.limit)
    if sample.unit not in METRIC_UNITS:
        case = replace(case, metric=False, unit=sample.unit, position_unit=sample.unit)
    return replace(case, truth=truth, limit=sample.limit, plane=sample.plane)


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
