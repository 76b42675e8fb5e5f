# SPDX-License-Identifier: Apache-2.0
"""Error metrics of depth maps, as reported in the depth-from-focus literature.

The RMSE of a data set is the mean of the RMSEs of its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class DepthErrors:
    """Errors over the pixels where both depth maps are finite and the truth is positive.

    :param coverage: share of the pixels with truth that have a finite estimate.
    :param mse: mean square error in square metres.
    :param rmse: root mean square error in metres.
    :param log_rmse: root mean square of the difference of natural logarithms.
    :param abs_rel: mean of |error| / truth.
    :param sq_rel: mean of error^2 / truth, in metres.
    :param delta1: share with max(estimate / truth, truth / estimate) < 1.25; then its square
        and its cube.
    """

    coverage: float
    mse: float
    rmse: float
    log_rmse: float
    abs_rel: float
    sq_rel: float
    delta1: float
    delta2: float
    delta3: float


def depth_errors(estimate: np.ndarray, truth: np.ndarray) -> DepthErrors:
    """Compare two depth maps in metres, (H, W), where both are finite.

    :raises ValueError: for maps of different size, or with no pixel to compare.
    """
    if estimate.shape != truth.shape:
        raise ValueError(f'depth maps differ in size: {estimate.shape} and {truth.shape}')
    known = np.isfinite(truth) & (truth > 0.0)
    both = known & np.isfinite(estimate) & (estimate > 0.0)
    if not both.any():
        raise ValueError(f'no pixel to compare: {known.sum()} have truth, none an estimate')
    p, g = estimate[both].astype(np.float64), truth[both].astype(np.float64)
    error = p - g
    ratio = np.maximum(p / g, g / p)
    mse = float(np.mean(error**2))
    return DepthErrors(
        coverage=float(both.sum() / known.sum()),
        mse=mse,
        rmse=mse**0.5,
        abs_rel=float(np.mean(np.abs(error) / g)),
        sq_rel=float(np.mean(error**2 / g)),
        log_rmse=float(np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2))),
        delta1=float(np.mean(ratio < 1.25)),
        delta2=float(np.mean(ratio < 1.25**2)),
        delta3=float(np.mean(ratio < 1.25**3)),
    )


def mean_errors(errors: Sequence[DepthErrors]) -> DepthErrors:
    """Average each metric over images."""
    if not errors:
        raise ValueError('no images to average over')
    return DepthErrors(*(float(np.mean(values)) for values in zip(*map(astuple, errors))))


def bumpiness(estimate: np.ndarray, truth: np.ndarray, border: str = 'reflect') -> float:
    """Return the bumpiness of the error: 100 times the mean of min(0.05, ||Hessian||_F).

    The Hessian is that of two Scharr filters of gain 2, 4 times the true one, as in the evaluation
    code of DFV. The value depends on the unit of depth.

    :param border: ``reflect``, as in current versions of scikit-image, or ``zero``: the outermost
        pixels of each filter are 0, as in the version that evaluated DFV.
    :raises ValueError: for an unknown border.
    """
    if border not in ('reflect', 'zero'):
        raise ValueError(f"border must be one of reflect, zero, got '{border}'")
    error = estimate.astype(np.float64) - truth
    dx, dy = _scharr(error, border)
    hessian = (*_scharr(dx, border), *_scharr(dy, border))
    norm = np.sqrt(sum(second**2 for second in hessian))
    return float(100.0 * np.mean(np.minimum(norm, 0.05)[truth > 0.0]))


def _scharr(image: np.ndarray, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y Scharr responses with a gain of 2 on a unit ramp."""
    difference, smooth = np.array([-1.0, 0.0, 1.0]), np.array([3.0, 10.0, 3.0]) / 16.0
    dx = cv2.sepFilter2D(image, cv2.CV_64F, difference, smooth, borderType=cv2.BORDER_REFLECT)
    dy = cv2.sepFilter2D(image, cv2.CV_64F, smooth, difference, borderType=cv2.BORDER_REFLECT)
    if border == 'zero':
        for response in (dx, dy):
            response[[0, -1]] = response[:, [0, -1]] = 0.0
    return dx, dy
