# SPDX-License-Identifier: Apache-2.0
"""Driver units to dioptres, from targets at known distances: 1/s = a + b u (+ c u^2).

A lens whose group is moved by a linear actuator has a focus that is nearly linear in dioptres
(thin lens: 1/s = 1/F - 1/v with a small change of v), which the quadratic term refines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear, leave_one_out_errors
from dualfocus_ros.exceptions import CalibrationError

MIN_PAIRS = 3
# The quadratic term is taken if it predicts what it has not seen that much better.
QUADRATIC_GAIN = 0.7
MIN_PAIRS_QUADRATIC = 5
MAX_RESIDUAL = 0.05  # of the range in dioptres
MIN_SPAN = 0.2  # of the nearest setting in dioptres
TABLE_SIZE = 9
MIN_SWEEP = 5
MIN_CONTRAST = 1.3
_POWERS = np.geomspace(0.4, 3.0, 16)
_TOP = 0.1  # of the peak, down to which the sweep is used
_MAX_MISFIT = 0.15


@dataclass(frozen=True, eq=False)
class SharpnessPeak:
    """The lens position at which a target is sharpest.

    :param position: in driver units.
    :param error: standard error of it, from the scatter about the fitted curve.
    :param contrast: focus measure at the peak over that at its lowest.
    :param positions: (N,) of the sweep, increasing, each once.
    :param measures: (N,) focus measure at each.
    """

    position: float
    error: float
    contrast: float
    positions: np.ndarray
    measures: np.ndarray


@dataclass(frozen=True, eq=False)
class FocusScale:
    """The result.

    :param coefficients: a, b and, where it pays, c, for u in driver units.
    :param positions: (N,) measured, driver units.
    :param dioptres: (N,) measured.
    :param fit: of the normalised positions.
    :param left_out_rms: in dioptres, linear and (NaN for too few pairs) quadratic.
    :param table: positions and dioptres, for piecewise linear interpolation.
    """

    coefficients: tuple[float, ...]
    positions: np.ndarray
    dioptres: np.ndarray
    fit: LinearFit
    left_out_rms: tuple[float, float]
    table: tuple[np.ndarray, np.ndarray]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the fitted dioptres at driver positions."""
        return np.polynomial.polynomial.polyval(positions, self.coefficients)


def find_sharpness_peak(positions: Sequence[float], measures: Sequence[float]) -> SharpnessPeak:
    """Find the peak of a focus measure over lens positions, between them if need be.

    :param positions: of each image; repeated ones are averaged.
    :param measures: focus measure of each image, positive.
    :raises CalibrationError: if there is no peak, or it lies at an end of the sweep.
    """
    known = np.asarray(positions, np.float64)
    at, index = np.unique(known, return_inverse=True)
    total = np.bincount(index, np.asarray(measures, np.float64))
    mean = total / np.bincount(index)
    if len(at) < MIN_SWEEP:
        raise CalibrationError(
            f'the sweep has {len(at)} lens position{"s" * (len(at) != 1)}: at least {MIN_SWEEP} '
            'are needed to find the sharpest'
        )
    best = int(np.argmax(mean))
    contrast = float(mean[best] / max(mean.min(), 1e-300))
    if contrast < MIN_CONTRAST:
        raise CalibrationError(
            f'the image is hardly sharper at its best than at its worst ({contrast:.2f} times): '
            'use a target with more texture in the region, more light, or a wider sweep'
        )
    at_end = CalibrationError(
        f'the image is sharpest at an end of the sweep (position {at[best]:g}): the target may be '
        'nearer or farther than the sweep goes; sweep farther or move the target'
    )
    if best in (0, len(at) - 1):
        raise at_end
    relative = mean / mean[best]
    near = np.zeros(len(at), bool)
    near[np.argsort(np.abs(at - at[best]), kind='stable')[:MIN_SWEEP]] = True
    some = near | (relative > _TOP)
    half = 0.5 * float(np.ptp(at[some]))
    x = (at[some] - at[best]) / half
    fits = [(power, _fit_power(x, relative[some], power)) for power in _POWERS]
    power, fit = min(fits, key=lambda item: item[0] * item[1].rms)
    _, slope, curve = fit.coefficients
    vertex = -0.5 * slope / curve if curve > 0.0 else np.inf
    if not x[0] < vertex < x[-1] or power * fit.rms > _MAX_MISFIT:
        if best < 2 or best > len(at) - 3:
            raise at_end
        raise CalibrationError(
            'the focus measure has no clear single peak: keep target, camera and light still '
            'during the sweep, and the region on one flat target'
        )
    gradient = np.array([0.0, -0.5 / curve, 0.5 * slope / curve**2])
    error = float(np.sqrt(max(gradient @ fit.covariance @ gradient, 0.0)))
    return SharpnessPeak(float(at[best] + vertex * half), error * half, contrast, at, mean)


def _fit_power(x: np.ndarray, energy: np.ndarray, power: float) -> LinearFit:
    """Fit energy^(-1/power) by a parabola, with equal relative errors.

    The energy of the gradient of a texture that a blur of variance v has passed over goes as
    v^-2 for white noise and as v^-1/2 for single edges, and v is a parabola in dioptres: unlike
    a Gaussian this holds as far as the sweep goes.
    """
    values = energy ** (-1.0 / power)
    design = np.stack([np.ones_like(x), x, x * x], axis=1) / values[:, None]
    return fit_linear(design, np.ones_like(x), scale_floor=0.005)


def fit_focus_scale(positions: Sequence[float], distances: Sequence[float]) -> FocusScale:
    """Fit dioptres over driver units.

    :param positions: driver units, in which each target was sharpest.
    :param distances: of each target from the lens in metres; infinite for the horizon.
    :raises CalibrationError: for too few, too close, contradicting or non-monotone pairs.
    """
    u = np.asarray(positions, np.float64)
    with np.errstate(divide='ignore'):
        q = 1.0 / np.asarray(distances, np.float64)
    if not (np.all(np.isfinite(u)) and np.all(np.isfinite(q)) and np.all(q >= 0.0)):
        raise CalibrationError('positions must be numbers and distances positive metres')
    settings = len(np.unique(q))
    if settings < MIN_PAIRS or len(np.unique(u)) < MIN_PAIRS:
        raise CalibrationError(
            f'{settings} different distances at {len(np.unique(u))} different positions cannot '
            f'show whether the scale is straight: measure at least {MIN_PAIRS}, better 5 to 8, '
            'evenly spaced in 1/distance'
        )
    span = float(q.max() - q.min())
    if span < MIN_SPAN * q.max():
        raise CalibrationError(
            f'the distances reach only from {_metres(q.max())} to {_metres(q.min())}: spread them '
            'over the range that the camera is to measure'
        )
    middle, half = 0.5 * (u.max() + u.min()), 0.5 * (u.max() - u.min())
    x = (u - middle) / half
    designs = [np.stack([x**power for power in range(degree + 1)], axis=1) for degree in (1, 2)]
    linear = _rms(leave_one_out_errors(designs[0], q, q))
    quadratic = np.nan
    if settings >= MIN_PAIRS_QUADRATIC:
        quadratic = _rms(leave_one_out_errors(designs[1], q, q))
    degree = 2 if quadratic < QUADRATIC_GAIN * linear else 1
    fit = fit_linear(designs[degree - 1], q, scale_floor=0.002 * span)
    if np.mean(fit.outliers) > 0.25 or fit.rms > MAX_RESIDUAL * span:
        worst = int(np.argmax(np.abs(fit.residuals)))
        raise CalibrationError(
            f'the pairs do not lie on one curve: {fit.rms:.3f} dioptres (RMS) off, the worst at '
            f'position {u[worst]:g} with {_metres(q[worst])} ({fit.residuals[worst]:+.3f} '
            'dioptres): check the distances, measured from the lens, and the units'
        )
    at = np.linspace(-1.0, 1.0, TABLE_SIZE)
    dioptres = np.polynomial.polynomial.polyval(at, fit.coefficients)
    steps = np.diff(dioptres)
    if not (np.all(steps > 0.0) or np.all(steps < 0.0)):
        raise CalibrationError(
            'the fitted focus turns round within the measured range, which no lens does: check '
            'the pairs near the turn, and measure more distances'
        )
    # c0 + c1 (u - m) / h + c2 ((u - m) / h)^2, sorted by powers of u.
    normal = np.polynomial.Polynomial(fit.coefficients)
    plain = normal(np.polynomial.Polynomial([-middle / half, 1.0 / half])).coef
    table = middle + half * at, np.maximum(dioptres, 0.0)
    if np.any(np.diff(table[1]) == 0.0):  # beyond infinity there is nothing to focus on
        kept = dioptres >= 0.0
        table = table[0][kept], table[1][kept]
    return FocusScale(tuple(float(c) for c in plain), u, q, fit, (linear, float(quadratic)), table)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _metres(dioptres: float) -> str:
    return f'{1.0 / dioptres:.3g} m' if dioptres > 0.0 else 'infinity'
