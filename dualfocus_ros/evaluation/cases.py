# SPDX-License-Identifier: Apache-2.0
"""One stack to be estimated and judged, whatever data set and unit it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualfocus_ros.datasets.samples import METRIC_UNITS, StackSample

# Estimates beyond count as this many metres, as the nodes' default limit has it.
MAX_DEPTH = 20.0


@dataclass(frozen=True, eq=False)
class Case:
    """A focal stack and its truth.

    Methods work on *positions*: inverse depth in dioptres, or another unit affine in it, in which
    sharpness is a symmetric function of the distance from focus.

    :param images: (N, H, W, 3) uint8, or float32 in [0, 1] where a protocol does not quantise.
    :param focus: (N,) position of each plane.
    :param truth: (H, W) float32 in metres if ``metric``, else a position; NaN is not counted.
    :param middle: position that an estimator says which knows the focus list and nothing else.
    :param limit: metres; truth and estimates beyond it count as this value.
    :param plane: rows and columns where the position must be linear in pixel coordinates.
    """

    name: str
    images: np.ndarray
    focus: np.ndarray
    truth: np.ndarray
    metric: bool
    unit: str
    position_unit: str
    middle: float
    limit: float | None = None
    plane: tuple[slice, slice] | None = None

    @property
    def truth_position(self) -> np.ndarray:
        """(H, W) float64 truth as position, NaN where unknown."""
        if not self.metric:
            return self.truth.astype(np.float64)
        return np.asarray(1.0 / self.truth.astype(np.float64))

    @property
    def has_ratios(self) -> bool:
        """Whether relative errors mean anything: the truth is positive and its zero is real."""
        return self.metric or self.unit == 'disparity'

    def value(self, position: np.ndarray) -> np.ndarray:
        """Return positions in the unit of the truth; metres are limited to ``limit`` or 20 m."""
        if not self.metric:
            return np.asarray(position, dtype=np.float64)
        farthest = self.limit or MAX_DEPTH
        return np.asarray(1.0 / np.maximum(position.astype(np.float64), 1.0 / farthest))


def evenly_spaced_planes(available: int, wanted: int) -> np.ndarray:
    """Return indices of evenly spaced planes, truncated as DDFF12 is evaluated: 0 2 4 6 9 of 10.

    ``wanted`` 0, or more than there are, takes all.
    """
    if wanted <= 0 or wanted >= available:
        return np.arange(available)
    return np.linspace(0, available - 1, wanted).astype(int)


def case_from_stack(sample: StackSample, planes: int = 0) -> Case:
    """Return the case of a recorded stack, with at most ``planes`` of its planes (0: all)."""
    chosen = evenly_spaced_planes(len(sample.images), planes)
    metric = sample.unit in METRIC_UNITS
    focus = sample.focus[chosen].astype(np.float64)
    if sample.unit == 'metres':
        focus = 1.0 / focus
    truth = sample.truth
    if truth is None:
        truth = np.full(sample.images.shape[1:3], np.nan, np.float32)
    if sample.limit is not None:
        truth = np.minimum(truth, sample.limit)
    return Case(
        name=sample.name,
        images=sample.images[chosen],
        focus=focus,
        truth=truth,
        metric=metric,
        unit='m' if metric else sample.unit,
        position_unit='dioptres' if metric else sample.unit,
        middle=float(focus.mean()),
        limit=sample.limit,
        plane=sample.plane,
    )
