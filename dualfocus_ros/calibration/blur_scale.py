# SPDX-License-Identifier: Apache-2.0
"""Calibration of kappa, the pixels of blur per dioptre, from a flat target at many focus settings.

The circle of confusion of a target at 1/q0 metres has the diameter kappa |q - q0|, and a disc of
diameter c has the standard deviation c / 4 along an axis. With the blur in focus (aberrations,
diffraction, pixels) the variance is the parabola sigma^2 = sigma0^2 + (kappa / 4)^2 (q - q0)^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from dualfocus_ros.calibration import calibration_plots as plots
from dualfocus_ros.calibration.blur_widths import BlurWidths, check_count
from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.calibration.robust_fit import condition_number, fit_linear, parabola_vertex
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.io.figures import figure_to_array

MIN_BLUR = 6.0  # px of diameter at the most blurred setting; less is hidden by the blur in focus
# Smaller blur (px of diameter) is dominated by pixels and aberrations, not by defocus.
GEOMETRIC_BLUR = 3.0
MAX_RESIDUAL = 0.1  # of the largest blur
MAX_CONDITION = 1e4
_DISAGREEMENT = 0.05  # relative, between fitted and known focus of the target

LensComparison = tuple[tuple[str, ...], dict[str, float]]


@dataclass(frozen=True, eq=False)
class BlurScale:
    """Fit of the blur over focus.

    :param kappa: diameter of the circle of confusion in pixels per dioptre.
    :param focus: dioptres at which the target is sharpest.
    :param floor: standard deviation of the blur in focus, in pixels; NaN for ``texture``.
    :param residuals: (N,) measured minus fitted standard deviation in pixels.
    :param used: (N,) bool, False for outliers and too little blur.
    """

    kappa: float
    kappa_error: float
    focus: float
    focus_error: float
    floor: float
    widths: BlurWidths
    residuals: np.ndarray
    used: np.ndarray

    def sigma(self, dioptres: np.ndarray) -> np.ndarray:
        """Return the fitted standard deviation of the blur in pixels."""
        floor = 0.0 if np.isnan(self.floor) else self.floor
        return np.hypot(floor, 0.25 * self.kappa * (dioptres - self.focus))


def fit_blur_scale(
    widths: BlurWidths,
    scale: Callable[[np.ndarray], np.ndarray] = np.ones_like,
    focus: float | None = None,
) -> BlurScale:
    """Fit kappa.

    :param scale: magnification m(q) of the image. The blur is divided by it, so that kappa refers
        to the image focused at infinity; by default kappa refers to the focus of the target.
    :param focus: known inverse distance of the target in 1/m, for sweeps that do not pass it.
    :raises CalibrationError: for widths that do not determine kappa, or are inconsistent.
    """
    q = widths.dioptres
    check_count(q, 'in which the blur could be measured')
    sigma = widths.sigma / scale(q)
    if 4.0 * (sigma.max() - sigma.min()) < MIN_BLUR:
        raise CalibrationError(
            f'the blur changes by only {4.0 * (sigma.max() - sigma.min()):.1f} pixels (diameter) '
            f'over the sweep from {q.min():.2f} to {q.max():.2f} dioptres: sweep farther to both '
            f'sides of the target, until it is at least {MIN_BLUR:.0f} pixels'
        )
    middle, half = 0.5 * (q.max() + q.min()), 0.5 * (q.max() - q.min())
    x = (q - middle) / half
    # Equal relative errors of sigma.
    weight = 1.0 / np.maximum(sigma, 0.4 * sigma.max())
    blurred = 4.0 * sigma >= GEOMETRIC_BLUR
    check_count(q[blurred], f'with a blur of {GEOMETRIC_BLUR:.0f} pixels (diameter) or more')
    terms = [x, x * x] if focus is None else [(x - (focus - middle) / half) ** 2]
    design = (np.stack([np.ones_like(x), *terms], axis=1) * weight[:, None])[blurred]
    if condition_number(design) > MAX_CONDITION:
        raise CalibrationError('the settings are too close together: sweep farther')
    fit = fit_linear(design, (sigma**2 * weight)[blurred], scale_floor=0.01 * sigma.max())
    curve = float(fit.coefficients[-1])
    if curve <= 0.0:
        raise CalibrationError(
            'the blur does not grow away from a sharpest focus: the sweep must pass the focus of '
            'the target, with camera and target at rest'
        )
    kappa = 4.0 * float(np.sqrt(curve)) / half
    kappa_error = 0.5 * kappa * float(fit.errors[-1]) / curve
    constant, focus_error = float(fit.coefficients[0]), 0.0
    if focus is None:
        vertex, error = parabola_vertex(fit)
        focus, focus_error = middle + half * vertex, half * error
        if not -1.0 <= vertex <= 1.0:
            raise CalibrationError(
                f'the sweep from {q.min():.2f} to {q.max():.2f} dioptres does not pass the focus '
                f'of the target (about {focus:.2f}): move the target into it, sweep farther, or '
                'give the distance of the target'
            )
        constant -= curve * vertex**2
    floor = float(np.sqrt(max(constant, 0.0))) if widths.method == 'edge' else float('nan')
    used = blurred.copy()
    used[blurred] = ~fit.outliers
    outliers = int(fit.outliers.sum())
    variance = constant + (0.25 * kappa * (q - focus)) ** 2
    residuals = sigma - np.sqrt(np.maximum(variance, 0.0))
    rms = float(np.sqrt(np.mean(residuals[used] ** 2)))
    if outliers > 0.3 * blurred.sum() or rms > MAX_RESIDUAL * sigma.max():
        raise CalibrationError(
            'the blur does not follow a thin lens: residual '
            f'{4.0 * rms:.2f} pixels (diameter, RMS), {outliers} of {int(blurred.sum())} images '
            'are outliers. The target must be flat, the lens at rest in every image and its focus '
            'scale right (dualfocus calibrate focus)'
        )
    return BlurScale(kappa, kappa_error, focus, focus_error, floor, widths, residuals, used)


def blur_scale_result(
    result: BlurScale,
    scale: Callable[[np.ndarray], np.ndarray],
    reference: str,
    known_focus: float | None,
    lens: LensComparison,
) -> CalibrationResult:
    """Return node parameters, summary and figure of a fit.

    :param scale: magnification that the fit was made with.
    :param reference: the image that kappa refers to, in words.
    :param known_focus: inverse distance of the target in 1/m, to check the focus scale.
    :param lens: of :func:`compare_with_lens`.
    """
    widths = result.widths
    columns = widths.dioptres, 4.0 * widths.sigma, 4.0 * result.residuals, result.used
    names = 'dioptres', 'diameter_px', 'residual_px', 'used'
    summary: dict[str, Any] = {
        'kappa': result.kappa,
        'kappa_error': result.kappa_error,
        'focus_dioptres': result.focus,
        'focus_error': result.focus_error,
        'floor_px': 4.0 * result.floor,
        'method': widths.method,
        'kappa_of': reference,
        **lens[1],
        'widths': [
            dict(zip(names, row, strict=True))
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ],
    }
    rms = 4.0 * float(np.sqrt(np.mean(result.residuals[result.used] ** 2)))
    distance = f'{1.0 / result.focus:.3f} m' if result.focus > 1e-3 else 'infinity'
    floor = '' if math.isnan(result.floor) else f'; {4.0 * result.floor:.2f} px in focus'
    lines = [
        f'blur: kappa = {result.kappa:.4f} px per dioptre (standard error '
        f'{result.kappa_error:.4f}) of {reference}, from the {widths.method} in '
        f'{int(result.used.sum())} images',
        f'target: sharpest at {result.focus:.4f} dioptres ({distance}){floor}; residual '
        f'{rms:.3f} px of diameter (RMS)',
        *lens[0],
    ]
    warnings = []
    known = result.focus if known_focus is None else known_focus
    if abs(result.focus - known) > _DISAGREEMENT * max(known, 0.2):
        warnings.append(
            f'the target is sharpest at {result.focus:.3f} dioptres, but its distance is '
            f'{known:.3f}: the focus scale is off (dualfocus calibrate focus)'
        )
    parameters = {'lens.kappa': result.kappa}
    return CalibrationResult(parameters, summary, lines, _figure(result, scale), warnings)


def compare_with_lens(
    kappa: float, focal_length: float | None, f_number: float | None, pixel_pitch: float | None
) -> LensComparison:
    """Derive the missing value of kappa = F^2 / (A p), or compare kappa with all three.

    :param focal_length: F in metres.
    :param f_number: A.
    :param pixel_pitch: p in metres.
    :returns: lines of text and numbers for JSON, empty if fewer than two values are known.
    """
    text = 'lens: {} and {} correspond to {}'
    f, p = f'f/{f_number or 0.0:g}', f'{(pixel_pitch or 0.0) * 1e6:g} um'
    if focal_length is None:
        if f_number is None or pixel_pitch is None:
            return (), {}
        focal = math.sqrt(kappa * f_number * pixel_pitch)
        line = text.format(f, p, f'a focal length of {focal * 1e3:.2f} mm')
        return (line,), {'focal_length': focal}
    length = f'{focal_length * 1e3:g} mm'
    if pixel_pitch is None:
        if f_number is None:
            return (), {}
        pitch = focal_length**2 / (f_number * kappa)
        line = text.format(length, f, f'a pixel pitch of {pitch * 1e6:.3f} um')
        return (line,), {'pixel_pitch': pitch}
    numbers = {'f_number': focal_length**2 / (kappa * pixel_pitch)}
    line = text.format(length, p, f'f/{numbers["f_number"]:.3f}')
    if f_number is not None:
        expected = focal_length**2 / (f_number * pixel_pitch)
        line += f'; kappa at {f} is {expected:.3f}, {kappa / expected - 1.0:+.1%}'
        numbers['kappa_expected'] = expected
    return (line,), numbers


def _figure(result: BlurScale, scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Draw blur over focus, its residuals, and edge profiles."""
    profiles = result.widths.profiles
    q = result.widths.dioptres
    measured = 4.0 * result.widths.sigma / scale(q)
    fine = np.linspace(q.min(), q.max(), 300)
    figure, upper, right = plots.fit_figure(
        'Blur',
        (fine, 4.0 * result.sigma(fine), f'κ = {result.kappa:.2f} px per dioptre'),
        (q, measured, 4.0 * result.residuals, result.used),
        ('focus, 1/m', 'diameter of the blur, px', 'residual, px'),
        (result.widths.method, 'not used'),
        three=bool(profiles),
    )
    upper.axvline(result.focus, color=plots.OUT, linestyle=':')
    upper.set(ylim=(0.0, None))
    if right is not None:
        picks = np.linspace(0, len(profiles) - 1, min(7, len(profiles))).round().astype(int)
        for pick in picks:
            focus, distance, value = profiles[pick]
            right.plot(distance, value, linewidth=1.0, label=f'{focus:.2f}')
        reach = max(0.75 * float(measured.max()), 6.0)
        right.set(xlabel='distance from the edge, px', ylabel='light, of the step')
        right.set(title='Edge profiles', xlim=(-reach, reach), ylim=(-0.2, 1.2))
        right.legend(fontsize='small', title='focus, 1/m')
    return figure_to_array(figure)
