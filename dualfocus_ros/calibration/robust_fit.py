# SPDX-License-Identifier: Apache-2.0
"""Robust linear fits, leave-one-out errors, condition numbers and vertices of parabolas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_HUBER = 1.345  # 95 % efficiency with normal errors
_OUTLIER = 4.0
_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Robust least-squares solution.

    :param coefficients: (P,).
    :param covariance: (P, P), from the variance of the residuals.
    :param residuals: (N,) measured minus fitted.
    :param weights: (N,) 1 for inliers, less for outliers.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    residuals: np.ndarray
    weights: np.ndarray

    @property
    def rms(self) -> float:
        """Weighted root mean square of the residuals."""
        return float(np.sqrt(np.sum(self.weights * self.residuals**2) / self.weights.sum()))

    @property
    def outliers(self) -> np.ndarray:
        """(N,) bool, residuals above 4 standard deviations."""
        return self.weights < _HUBER / _OUTLIER

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the coefficients, (P,)."""
        return np.sqrt(np.diag(self.covariance))


def fit_linear(design: np.ndarray, values: np.ndarray, scale_floor: float = 0.0) -> LinearFit:
    """Solve ``design @ coefficients = values`` by Huber's M-estimator (reweighted least squares).

    :param design: (N, P) with N >= P.
    :param values: (N,).
    :param scale_floor: residuals up to this size are never outliers.
    """
    weights = np.ones(len(values))
    scale_columns = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    scaled = design / scale_columns
    coefficients = np.zeros(design.shape[1])
    residuals = values
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(scaled * root[:, None], values * root, rcond=None)[0]
        residuals = values - scaled @ coefficients
        scale = max(1.4826 * float(np.median(np.abs(residuals))), scale_floor, 1e-300)
        fresh = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(residuals), 1e-300))
        # With few more values than unknowns the median is meaningless.
        if len(values) < design.shape[1] + 3:
            fresh = np.ones(len(values))
        done = np.allclose(fresh, weights, atol=1e-4)
        weights = fresh
        if done:
            break
    freedom = max(len(values) - design.shape[1], 1)
    variance = float(np.sum(weights * residuals**2)) / freedom
    inverse = np.linalg.pinv((scaled * weights[:, None]).T @ scaled)
    covariance = variance * inverse / np.outer(scale_columns, scale_columns)
    return LinearFit(coefficients / scale_columns, covariance, residuals, weights)


def leave_one_out_errors(design: np.ndarray, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the error of each value relative to the fit of the other groups, (N,).

    :param groups: (N,) labels; values of one group are left out together.
    """
    errors = np.empty(len(values))
    for label in np.unique(groups):
        out = groups == label
        fit = fit_linear(design[~out], values[~out])
        errors[out] = values[out] - design[out] @ fit.coefficients
    return errors


def condition_number(design: np.ndarray) -> float:
    """Return the condition number of a design with normalised columns."""
    lengths = np.linalg.norm(design, axis=0)
    if not np.all(lengths > 0.0):
        return float('inf')
    return float(np.linalg.cond(design / lengths))


def parabola_vertex(fit: LinearFit) -> tuple[float, float]:
    """Return the minimum of a fit of 1, x, x^2 and its standard error; infinite without one."""
    _, slope, curve = fit.coefficients
    if curve <= 0.0:
        return float('inf'), float('inf')
    gradient = np.array([0.0, -0.5 / curve, 0.5 * slope / curve**2])
    error = float(np.sqrt(max(gradient @ fit.covariance @ gradient, 0.0)))
    return float(-0.5 * slope / curve), error
