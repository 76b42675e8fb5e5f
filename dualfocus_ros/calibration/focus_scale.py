# SPDX-License-Identifier: Apache-2.0
"""Calibration of the focus scale: driver units to dioptres, from targets at known distances.

Model: 1/s = a + b u (+ c u^2) for u in driver units. With a linear actuator the focus is nearly
linear in dioptres (thin lens: 1/s = 1/F - 1/v with a small change of v).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np

from dualfocus_ros.calibration import calibration_plots as plots
from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear, leave_one_out_errors
from dualfocus_ros.calibration.target_images import SharpnessPeak
from dualfocus_ros.exceptions import CalibrationError, ConfigError
from dualfocus_ros.io.figures import figure_to_array

MIN_PAIRS = 3
# Use the quadratic term if it reduces the leave-one-out error to this share.
QUADRATIC_GAIN = 0.7
MIN_PAIRS_QUADRATIC = 5
MAX_RESIDUAL = 0.05  # of the range in dioptres
MIN_SPAN = 0.2  # of the nearest setting in dioptres
TABLE_SIZE = 9


@dataclass(frozen=True, eq=False)
class FocusScale:
    """Fit of dioptres over driver units.

    :param coefficients: a, b and, with a quadratic term, c.
    :param positions: (N,) measured, driver units.
    :param dioptres: (N,) measured.
    :param fit: over normalised positions.
    :param left_out_rms: leave-one-out errors in dioptres: linear, quadratic (NaN: too few pairs).
    :param table: positions and dioptres, for piecewise linear interpolation.
    """

    coefficients: tuple[float, ...]
    positions: np.ndarray
    dioptres: np.ndarray
    fit: LinearFit
    left_out_rms: tuple[float, float]
    table: tuple[np.ndarray, np.ndarray]

    def dioptres_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the fitted dioptres at driver positions."""
        return np.polynomial.polynomial.polyval(positions, self.coefficients)


def read_pairs(path: Path) -> tuple[list[float], list[float]]:
    """Read lens positions in driver units and target distances in metres.

    A line has a position and a distance, separated by spaces, commas or semicolons; ``#`` starts
    a comment. The first line may hold column names.

    :raises ConfigError: for an unreadable file or a malformed line.
    """
    try:
        lines = path.read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'{path} is neither DISTANCE=SWEEP nor a readable text file of pairs: {error}'
        ) from None
    positions: list[float] = []
    distances: list[float] = []
    for number, line in enumerate(lines, start=1):
        words = line.split('#')[0].replace(',', ' ').replace(';', ' ').split()
        if not words:
            continue
        try:
            position, distance = (float(word) for word in words)
        except ValueError:
            if not positions and number == 1:
                continue  # column names
            raise ConfigError(
                f'{path}, line {number}: expected a position and a distance in metres, got '
                f'{line.strip()!r}'
            ) from None
        if not distance > 0.0:
            raise ConfigError(
                f'{path}, line {number}: the distance must be positive, got {distance}'
            )
        positions.append(position)
        distances.append(distance)
    return positions, distances


def fit_focus_scale(positions: Sequence[float], distances: Sequence[float]) -> FocusScale:
    """Fit dioptres over driver units.

    :param positions: driver units at which each target was sharpest.
    :param distances: of each target from the lens in metres; infinite for the horizon.
    :raises CalibrationError: for too few, too close, inconsistent or non-monotonic pairs.
    """
    u = np.asarray(positions, np.float64)
    with np.errstate(divide='ignore'):
        q = 1.0 / np.asarray(distances, np.float64)
    if not (np.all(np.isfinite(u)) and np.all(np.isfinite(q)) and np.all(q >= 0.0)):
        raise CalibrationError('positions must be finite numbers and distances positive metres')
    settings = len(np.unique(q))
    if settings < MIN_PAIRS or len(np.unique(u)) < MIN_PAIRS:
        raise CalibrationError(
            f'{settings} different distances at {len(np.unique(u))} different positions cannot '
            f'determine the scale: measure at least {MIN_PAIRS}, better 5 to 8, '
            'evenly spaced in 1/distance'
        )
    span = float(q.max() - q.min())
    if span < MIN_SPAN * q.max():
        raise CalibrationError(
            f'the distances reach only from {_metres(q.max())} to {_metres(q.min())}: spread them '
            'over the range of use'
        )
    middle, half = 0.5 * (u.max() + u.min()), 0.5 * (u.max() - u.min())
    x = (u - middle) / half
    designs = [np.vander(x, degree + 1, increasing=True) for degree in (1, 2)]
    linear, quadratic = (
        float(np.sqrt(np.mean(leave_one_out_errors(design, q, q) ** 2)))
        if settings >= required
        else math.nan
        for design, required in zip(designs, (MIN_PAIRS, MIN_PAIRS_QUADRATIC), strict=True)
    )
    degree = 2 if quadratic < QUADRATIC_GAIN * linear else 1
    fit = fit_linear(designs[degree - 1], q, scale_floor=0.002 * span)
    if np.mean(fit.outliers) > 0.25 or fit.rms > MAX_RESIDUAL * span:
        worst = int(np.argmax(np.abs(fit.residuals)))
        raise CalibrationError(
            f'the pairs do not lie on one curve: {fit.rms:.3f} dioptres (RMS) off, the worst at '
            f'position {u[worst]:g} with {_metres(q[worst])} ({fit.residuals[worst]:+.3f} '
            'dioptres): check the distances, measured from the lens, and the units'
        )
    # c0 + c1 (u - m) / h + c2 ((u - m) / h)^2
    normal = np.polynomial.Polynomial(fit.coefficients)
    at = np.linspace(-1.0, 1.0, TABLE_SIZE)
    dioptres = normal(at)
    steps = np.diff(dioptres)
    if not (np.all(steps > 0.0) or np.all(steps < 0.0)):
        raise CalibrationError(
            'the fitted focus turns round within the measured range, unlike any lens: check '
            'the pairs near the turn, and measure more distances'
        )
    plain = normal(np.polynomial.Polynomial([-middle / half, 1.0 / half])).coef
    table = middle + half * at, np.maximum(dioptres, 0.0)
    if np.any(np.diff(table[1]) == 0.0):  # no focus beyond infinity
        table = table[0][dioptres >= 0.0], table[1][dioptres >= 0.0]
    return FocusScale(tuple(plain.tolist()), u, q, fit, (linear, quadratic), table)


def _metres(dioptres: float) -> str:
    return f'{1.0 / dioptres:.3g} m' if dioptres > 0.0 else 'infinity'


def focus_scale_result(
    scale: FocusScale,
    distances: Sequence[float],
    sweeps: Sequence[tuple[float, SharpnessPeak]] = (),
) -> CalibrationResult:
    """Return node parameters, summary and figure of a fit.

    :param distances: of each target in metres, as for :func:`fit_focus_scale`.
    :param sweeps: distance in metres and sharpness peak of each sweep; none for given pairs.
    """
    positions, dioptres = scale.table
    linear, quadratic = scale.left_out_rms
    columns = scale.positions, scale.fit.residuals, scale.fit.outliers
    pairs = list(zip(distances, *(column.tolist() for column in columns), strict=True))
    summary = {
        'coefficients': list(scale.coefficients),
        'residual_dioptres': scale.fit.rms,
        'left_out_dioptres': {'linear': linear, 'quadratic': quadratic},
        'pairs': [
            {'position': p, 'distance_m': d, 'residual_dioptres': r, 'outlier': out}
            for d, p, r, out in pairs
        ],
        'sweeps': [
            {
                'distance_m': d,
                'position': peak.position,
                'position_error': peak.error,
                'contrast': peak.contrast,
            }
            for d, peak in sweeps
        ],
    }
    warnings = [
        f'the pair of {d:g} m and position {p:g} is an outlier ({r:+.3f} dioptres) with a low '
        'weight'
        for d, p, r, out in pairs
        if out
    ]
    terms = ''.join(
        f' {c:+.6g} {name}' for c, name in zip(scale.coefficients[1:], ('u', 'u^2'), strict=False)
    )
    selection = ''
    if not math.isnan(quadratic):
        selection = (
            f'; leave-one-out error {linear:.4f} without and {quadratic:.4f} with u^2, '
            f'which is used below {QUADRATIC_GAIN:.0%} of the former'
        )
    lines = [
        f'focus: 1/s = {scale.coefficients[0]:.6g}{terms} dioptres from {len(scale.positions)} '
        f'distances, residual {scale.fit.rms:.4f} dioptres (RMS){selection}',
        f'range: positions {positions[0]:g} to {positions[-1]:g}, {dioptres[0]:.3f} to '
        f'{dioptres[-1]:.3f} dioptres',
    ]
    parameters = {
        'calibration.positions': positions.tolist(),
        'calibration.dioptres': dioptres.tolist(),
    }
    return CalibrationResult(parameters, summary, lines, _figure(scale, sweeps), warnings)


def _figure(scale: FocusScale, sweeps: Sequence[tuple[float, SharpnessPeak]]) -> np.ndarray:
    """Draw dioptres over driver units, their residuals, and the sharpness peaks."""
    fine = np.linspace(scale.positions.min(), scale.positions.max(), 200)
    names = ('', ' u', ' u²')
    formula = ' '.join(f'{c:+.4g}{n}' for c, n in zip(scale.coefficients, names, strict=False))
    figure, _, right = plots.fit_figure(
        'Focus scale',
        (fine, scale.dioptres_at(fine), formula),
        (scale.positions, scale.dioptres, scale.fit.residuals, ~scale.fit.outliers),
        ('lens position, driver units', 'focus, 1/m', 'residual, 1/m'),
        three=bool(sweeps),
    )
    if right is not None:
        for number, (distance, peak) in enumerate(sweeps):
            colour = f'C{number % 10}'
            style = {'color': colour, 'linewidth': 0.8, 'label': f'{distance:g} m'}
            right.plot(peak.positions, peak.measures / peak.measures.max(), '.-', **style)
            right.axvline(peak.position, color=colour, linestyle=':', linewidth=1.0)
        right.set(xlabel='lens position, driver units', ylabel='sharpness, of its peak')
        right.set(title='Sweeps', ylim=(0.0, 1.3))
        right.legend(fontsize='small', title='target at', loc='upper center', ncol=4)
    return figure_to_array(figure)
