# SPDX-License-Identifier: Apache-2.0
"""Peak of a focus measure over lens positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear, parabola_vertex
from dualfocus_ros.exceptions import CalibrationError

MIN_SWEEP = 5  # positions
MIN_CONTRAST = 1.3
_POWERS = np.geomspace(0.4, 3.0, 16)
_MIN_RELATIVE = 0.1  # of the peak; smaller measures are not fitted
_MAX_MISFIT = 0.15


@dataclass(frozen=True, eq=False)
class SharpnessPeak:
    """Lens position at which a target is sharpest.

    :param position: in driver units.
    :param error: standard error of the position, from the residuals of the fitted curve.
    :param contrast: largest focus measure over the smallest.
    :param positions: (N,) distinct positions of the sweep, increasing.
    :param measures: (N,) focus measure at each.
    """

    position: float
    error: float
    contrast: float
    positions: np.ndarray
    measures: np.ndarray


def find_sharpness_peak(positions: Sequence[float], measures: Sequence[float]) -> SharpnessPeak:
    """Find the peak of a focus measure over lens positions, with interpolation.

    :param positions: of each image; repeated ones are averaged.
    :param measures: focus measure of each image, positive.
    :raises CalibrationError: without a peak, or for a peak at an end of the sweep.
    """
    at, index = np.unique(np.asarray(positions, np.float64), return_inverse=True)
    mean = np.bincount(index, measures) / np.bincount(index)
    if len(at) < MIN_SWEEP:
        raise CalibrationError(
            f'the sweep has {len(at)} lens position{"s" * (len(at) != 1)}: at least {MIN_SWEEP} '
            'are needed to find the sharpest one'
        )
    best = int(np.argmax(mean))
    contrast = float(mean[best] / max(mean.min(), 1e-300))
    if contrast < MIN_CONTRAST:
        raise CalibrationError(
            f'the sharpest image is hardly sharper than the most blurred one ({contrast:.2f} times): '
            'use a target with more texture in the region, more light, or a wider sweep'
        )
    at_end = CalibrationError(
        f'the image is sharpest at an end of the sweep (position {at[best]:g}): the target may be '
        'outside the swept range; sweep farther or move the target'
    )
    if best in (0, len(at) - 1):
        raise at_end
    relative = mean / mean[best]
    near = np.zeros(len(at), bool)
    near[np.argsort(np.abs(at - at[best]), kind='stable')[:MIN_SWEEP]] = True
    some = near | (relative > _MIN_RELATIVE)
    half = 0.5 * float(np.ptp(at[some]))
    x = (at[some] - at[best]) / half
    fits = [(power, _fit_power(x, relative[some], power)) for power in _POWERS]
    power, fit = min(fits, key=lambda item: item[0] * item[1].rms)
    vertex, error = parabola_vertex(fit)
    if not x[0] < vertex < x[-1] or power * fit.rms > _MAX_MISFIT:
        if best < 2 or best > len(at) - 3:
            raise at_end
        raise CalibrationError(
            'the focus measure has no clear single peak: keep target, camera and light still '
            'during the sweep, and the region on one flat target'
        )
    return SharpnessPeak(float(at[best] + vertex * half), error * half, contrast, at, mean)


def _fit_power(x: np.ndarray, energy: np.ndarray, power: float) -> LinearFit:
    """Fit energy^(-1/power) by a parabola, with equal relative errors.

    The gradient energy of a texture under blur of variance v is proportional to v^-2 for white
    noise and to v^-1/2 for single edges, and v is a parabola in dioptres. Unlike a Gaussian, this
    model holds over the whole sweep.
    """
    values = energy ** (-1.0 / power)
    design = np.stack([np.ones_like(x), x, x * x], axis=1) / values[:, None]
    return fit_linear(design, np.ones_like(x), scale_floor=0.005)
