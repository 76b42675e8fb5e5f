# SPDX-License-Identifier: Apache-2.0
"""Calibration of focus breathing: scale 1 + g1 q + g2 q^2 and centre drift.

With the principal point c(q) = c0 + W d q (W the image width, d the drift in image widths per
dioptre), a point x of the reference image focused at r maps to the image focused at q by

    c(q) + m(q) / m(r) (x - c(r)),    m(q) = 1 + g1 q + g2 q^2.

Registration yields s = m(q) / m(r) and the shift t of the point c0. Both equations are linear in
the unknowns: g1 (q - s r) + g2 (q^2 - s r^2) = s - 1 and W d (q - s r) = t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import math

import numpy as np

from dualfocus_ros.calibration import calibration_plots as plots
from dualfocus_ros.calibration.parameter_file import CalibrationResult, Value
from dualfocus_ros.calibration.robust_fit import (
    condition_number,
    fit_linear,
    leave_one_out_errors,
)
from dualfocus_ros.calibration.view_registration import RegisteredView, check_settings
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.io.figures import figure_to_array

MAX_CONDITION = 100.0
MAX_RESIDUAL = 1.0  # px, after registration; larger for a target that is not flat, or motion
MAX_LEFT_OUT = 0.75  # px at the edge of the image


@dataclass(frozen=True, eq=False)
class BreathingFit:
    """Fit of the image scale and the centre drift.

    :param coefficients: g1, g2 in 1/dioptre and 1/dioptre^2.
    :param errors: their standard errors; ``covariance`` is (2, 2).
    :param drift: x, y in image widths per dioptre.
    :param left_out_px: leave-one-out RMS error of the scale, in pixels at the edge of the image.
    :param width: of the images in pixels.
    """

    coefficients: tuple[float, float]
    errors: tuple[float, float]
    covariance: np.ndarray
    drift: tuple[float, float]
    drift_errors: tuple[float, float]
    views: tuple[RegisteredView, ...]
    reference: float
    left_out_px: float
    width: int

    def scale(self, dioptres: np.ndarray) -> np.ndarray:
        """Return the image scale m(q)."""
        g1, g2 = self.coefficients
        return 1.0 + g1 * dioptres + g2 * dioptres**2


def fit_breathing(views: Sequence[RegisteredView], reference: float, width: int) -> BreathingFit:
    """Fit the scale polynomial and the drift.

    :param reference: focus of the image that the views map onto.
    :param width: of the images in pixels.
    :raises CalibrationError: for settings that do not determine the fit, or inconsistent views.
    """
    q = np.array([view.dioptres for view in views])
    s = np.array([view.scale for view in views])
    shift = np.array([view.shift_px for view in views])
    check_settings(q)
    residuals = [view.residual_px for view in views if math.isfinite(view.residual_px)]
    if residuals and float(np.median(residuals)) > MAX_RESIDUAL:
        raise CalibrationError(
            f'after scaling, the images are still {np.median(residuals):.2f} pixels apart '
            '(median): the target must be flat and square to the camera, and both at rest'
        )
    linear = q - s * reference
    design = np.stack([linear, q**2 - s * reference**2], axis=1)
    away = np.abs(linear) > 1e-9  # the reference has no information on the scale
    number = condition_number(design[away])
    if number > MAX_CONDITION:
        raise CalibrationError(
            f'the settings from {q.min():.2f} to {q.max():.2f} dioptres cannot separate g1 from '
            f'g2 (condition number {number:.0f}): spread them over the whole focus range'
        )
    half = 0.5 * width
    fit = fit_linear(design[away], (s - 1.0)[away], scale_floor=0.02 / half)
    errors = leave_one_out_errors(design[away], (s - 1.0)[away], q[away])
    left_out_px = half * float(np.sqrt(np.mean(errors**2)))
    if left_out_px > MAX_LEFT_OUT:
        worst = q[away][int(np.argmax(np.abs(errors)))]
        raise CalibrationError(
            'the scale at one setting differs from the prediction of the others: '
            f'{left_out_px:.2f} pixels at the edge of the image (RMS), the worst at {worst:.2f} '
            'dioptres. Keep camera and target on firm stands, let the lens settle, or record more '
            'settings'
        )
    drifts = [
        fit_linear(width * linear[away, None], shift[away, axis], scale_floor=0.02)
        for axis in (0, 1)
    ]
    return BreathingFit(
        tuple(fit.coefficients.tolist()),
        tuple(fit.errors.tolist()),
        fit.covariance,
        (float(drifts[0].coefficients[0]), float(drifts[1].coefficients[0])),
        (float(drifts[0].errors[0]), float(drifts[1].errors[0])),
        tuple(views),
        reference,
        left_out_px,
        width,
    )


def breathing_result(result: BreathingFit, image_width: int | None = None) -> CalibrationResult:
    """Return node parameters, summary and figure of a fit.

    :param image_width: of the whole image in pixels, if a region of it was fitted: the drift is
        in widths of the whole image.
    """
    ratio = result.width / (image_width or result.width)
    drift = result.drift[0] * ratio, result.drift[1] * ratio
    parameters: dict[str, Value] = {
        'breathing.model': 'polynomial',
        'breathing.coefficients': list(result.coefficients),
        'breathing.centre_drift': list(drift),
    }
    summary = {
        'coefficients': list(result.coefficients),
        'errors': list(result.errors),
        'covariance': result.covariance,
        'centre_drift': list(drift),
        'centre_drift_errors': list(result.drift_errors),
        'left_out_px': result.left_out_px,
        'reference_dioptres': result.reference,
        'views': [asdict(view) for view in result.views],
    }
    (g1, g2), (e1, e2) = result.coefficients, result.errors
    x, y = (result.width * value for value in result.drift)
    error_x, error_y = (result.width * error for error in result.drift_errors)
    settings = sorted({view.dioptres for view in result.views})
    at = settings[-1]
    lines = [
        f'breathing: scale 1 {g1:+.6f} q {g2:+.7f} q^2 (standard errors {e1:.6f}, {e2:.7f}) from '
        f'{len(settings)} settings, {settings[0]:.2f} to {at:.2f} dioptres',
        f'centre: {x:+.3f}, {y:+.3f} pixels per dioptre (standard errors {error_x:.3f}, '
        f'{error_y:.3f})',
        f'check: leave-one-out error {result.left_out_px:.3f} pixels (RMS) at the edge of the '
        f'image, where the scale at {at:.2f} dioptres amounts to '
        f'{0.5 * result.width * (g1 * at + g2 * at * at):.1f}',
    ]
    return CalibrationResult(parameters, summary, lines, _figure(result))


def _figure(result: BreathingFit) -> np.ndarray:
    """Draw scale and centre over focus, and the residuals of the scale."""
    q = np.array([view.dioptres for view in result.views])
    scale = np.array([view.scale for view in result.views])
    shift = np.array([view.shift_px for view in result.views])
    measured = scale * float(result.scale(np.array(result.reference)))
    residuals = 0.5 * result.width * (measured - result.scale(q))
    fine = np.linspace(0.0, q.max(), 200)
    g1, g2 = result.coefficients
    figure, _, right = plots.fit_figure(
        'Focus breathing',
        (fine, result.scale(fine), f'1 {g1:+.5f} q {g2:+.6f} q²'),
        (q, measured, residuals, np.ones(len(q), bool)),
        ('focus, 1/m', 'image scale m', 'residual, px at edge'),
    )
    order = np.argsort(q)
    for axis, name, colour in ((0, 'x', plots.MEASURED), (1, 'y', plots.OTHER)):
        right.plot(q, shift[:, axis], 'o', color=colour, label=f'{name} measured')
        drift = result.width * result.drift[axis]
        label = f'{name}: {drift:+.3f} px per dioptre'
        right.plot(
            q[order], (drift * (q - scale * result.reference))[order], color=colour, label=label
        )
    low, high = right.get_ylim()
    if high - low < 1.0:  # keep noise from looking like a drift
        right.set_ylim(0.5 * (low + high) - 0.5, 0.5 * (low + high) + 0.5)
    right.set(xlabel='focus, 1/m', ylabel='shift of the centre, px', title='Centre drift')
    right.legend(fontsize='small')
    return figure_to_array(figure)
