# SPDX-License-Identifier: Apache-2.0
"""Calibration of kappa, the pixels of blur per dioptre, from a flat target at many focus settings.

The circle of confusion of a target at 1/q0 metres has the diameter kappa |q - q0|, and a disc of
diameter c has the standard deviation c / 4 along an axis. With the blur in focus (aberrations,
diffraction, pixels) the variance is the parabola sigma^2 = sigma0^2 + (kappa / 4)^2 (q - q0)^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from dualfocus_ros.calibration.calibration_result import CalibrationResult
from dualfocus_ros.calibration.edge_blur import Edge, edge_width, find_edge
from dualfocus_ros.calibration.robust_fit import condition_number, fit_linear
from dualfocus_ros.calibration.target_images import FocusImage, Region, sharpness
from dualfocus_ros.calibration.texture_blur import power_spectrum, relative_radius
from dualfocus_ros.exceptions import CalibrationError

METHODS = ('auto', 'edge', 'texture')
MIN_SETTINGS = 6
MIN_BLUR = 6.0  # px of diameter at the most blurred setting; less is hidden by the blur in focus
# Smaller blur (px of diameter) is dominated by pixels and aberrations, not by defocus.
GEOMETRIC_BLUR = 3.0
MAX_RESIDUAL = 0.1  # of the largest blur
MAX_CONDITION = 1e4
_DISAGREEMENT = 0.05  # relative, between fitted and known focus of the target


@dataclass(frozen=True, eq=False)
class BlurWidths:
    """Blur of each image.

    :param dioptres: (N,).
    :param sigma: (N,) standard deviation along an axis in pixels; with ``texture`` relative to
        the sharpest image.
    :param method: ``edge`` or ``texture``.
    :param edge: measured edge.
    :param profiles: dioptres, distances and values of each edge profile.
    """

    dioptres: np.ndarray
    sigma: np.ndarray
    method: str
    edge: Edge | None = None
    profiles: tuple[tuple[float, np.ndarray, np.ndarray], ...] = ()


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


def measure_blur(
    settings: Sequence[Sequence[FocusImage]],
    method: str = 'auto',
    region: Region | None = None,
    progress: Callable[[], object] = lambda: None,
) -> BlurWidths:
    """Measure the blur of all images.

    :param settings: images of each focus setting.
    :param method: ``edge``, ``texture``, or ``auto``: edge if one is found.
    :param region: part of the image with the target; default the whole image.
    :param progress: called once per image.
    :raises CalibrationError: for too few settings, or a target without edge and texture.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got {method!r}')
    _check_count(len(settings), 'with images at rest')
    sharp = [sharpness(group[0], region) for group in settings]
    reference = settings[int(np.argmax(sharp))][0]

    def luminance(image: FocusImage) -> np.ndarray:
        whole = image.luminance()
        return whole if region is None else region.crop(whole)

    edge = find_edge(luminance(reference)) if method != 'texture' else None
    if method == 'edge' and edge is None:
        raise CalibrationError(
            'no slanted edge was found in the sharpest image: it must be straight, turned by 2 to '
            '30 degrees against the rows or columns, between two even areas of different '
            'brightness. Select its region, or use the method texture, which needs no edge'
        )
    found: list[tuple[float, float]] = []
    profiles = []
    if edge is not None:
        for image in (image for group in settings for image in group):
            measured = edge_width(luminance(image), edge)
            progress()
            if measured is None:
                continue
            found.append((image.dioptres, measured[0]))
            profiles.append((image.dioptres, *measured[1:]))
        kind = 'edge'
    else:
        frequencies, before = power_spectrum(luminance(reference))
        for image in (image for group in settings for image in group):
            progress()
            if image is reference:
                found.append((image.dioptres, 0.0))
                continue
            _, power = power_spectrum(luminance(image))
            radius = relative_radius(frequencies, power, before)
            if radius is not None:
                found.append((image.dioptres, 0.5 * radius))
        kind = 'texture'
    values = np.array(found).reshape(-1, 2)
    return BlurWidths(values[:, 0], values[:, 1], kind, edge, tuple(profiles))


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
    _check_count(len(np.unique(np.round(q, 3))), 'in which the blur could be measured')
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
    _check_count(
        len(np.unique(np.round(q[blurred], 3))),
        f'with a blur of {GEOMETRIC_BLUR:.0f} pixels (diameter) or more',
    )
    if focus is None:
        design = np.stack([np.ones_like(x), x, x * x], axis=1)
    else:
        design = np.stack([np.ones_like(x), (x - (focus - middle) / half) ** 2], axis=1)
    design = (design * weight[:, None])[blurred]
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
    focus_error = 0.0
    if focus is None:
        slope = float(fit.coefficients[1])
        vertex = -0.5 * slope / curve
        gradient = np.array([0.0, -0.5 / curve, 0.5 * slope / curve**2])
        focus_error = half * float(np.sqrt(max(gradient @ fit.covariance @ gradient, 0.0)))
        focus = middle + half * vertex
        if not -1.0 <= vertex <= 1.0:
            raise CalibrationError(
                f'the sweep from {q.min():.2f} to {q.max():.2f} dioptres does not pass the focus '
                f'of the target (about {focus:.2f}): move the target into it, sweep farther, or '
                'give the distance of the target'
            )
        constant = float(fit.coefficients[0]) - curve * vertex**2
    else:
        constant = float(fit.coefficients[0])
    floor = float(np.sqrt(max(constant, 0.0))) if widths.method == 'edge' else float('nan')
    used = blurred.copy()
    used[blurred] = ~fit.outliers
    outliers = int(fit.outliers.sum())
    variance = constant + (0.25 * kappa * (q - focus)) ** 2
    residuals = sigma - np.sqrt(np.maximum(variance, 0.0))
    rms = float(np.sqrt(np.mean(residuals[used] ** 2)))
    if outliers > 0.3 * blurred.sum() or rms > MAX_RESIDUAL * sigma.max():
        raise CalibrationError(
            f'the blur does not follow a thin lens: residual {4.0 * rms:.2f} pixels (diameter, RMS), '
            f'{outliers} of {int(blurred.sum())} images are outliers. The target must be flat, the '
            'lens at rest in every image and its focus scale right (dualfocus calibrate focus)'
        )
    return BlurScale(kappa, kappa_error, focus, focus_error, floor, widths, residuals, used)


def _check_count(count: int, condition: str) -> None:
    if count < MIN_SETTINGS:
        raise CalibrationError(
            f'{count} focus setting{"s" * (count != 1)} {condition}: at least {MIN_SETTINGS} are '
            'needed, on both sides of the target'
        )


def blur_scale_result(
    result: BlurScale,
    scale: Callable[[np.ndarray], np.ndarray],
    reference: str,
    known_focus: float | None = None,
    lens: LensComparison | None = None,
) -> CalibrationResult:
    """Return node parameters, summary and figure of a fit.

    :param scale: magnification that the fit was made with.
    :param reference: the image that kappa refers to, in words.
    :param known_focus: inverse distance of the target in 1/m, to check the focus scale.
    :param lens: comparison with nominal values.
    """
    widths = result.widths
    rows = zip(widths.dioptres, widths.sigma, result.residuals, result.used, strict=True)
    summary: dict[str, Any] = {
        'kappa': result.kappa,
        'kappa_error': result.kappa_error,
        'focus_dioptres': result.focus,
        'focus_error': result.focus_error,
        'floor_px': 4.0 * result.floor,
        'method': widths.method,
        'kappa_of': reference,
        **(lens.numbers if lens is not None else {}),
        'widths': [
            {
                'dioptres': float(q),
                'diameter_px': 4.0 * float(s),
                'residual_px': 4.0 * float(r),
                'used': bool(u),
            }
            for q, s, r, u in rows
        ],
    }
    return CalibrationResult(
        {'lens.kappa': result.kappa},
        summary,
        _lines(result, reference) + ([lens.line] if lens is not None else []),
        _figure(result, scale),
        _warnings(result, known_focus),
    )


@dataclass(frozen=True)
class LensComparison:
    """Comparison of a measured kappa with nominal values of the lens."""

    line: str
    numbers: dict[str, float]


def compare_with_lens(
    kappa: float, focal_length: float | None, f_number: float | None, pixel_pitch: float | None
) -> LensComparison | None:
    """Derive the missing value of kappa = F^2 / (A p), or compare kappa with all three.

    :param focal_length: F in metres.
    :param f_number: A.
    :param pixel_pitch: p in metres.
    :returns: None if fewer than two values are known.
    """
    if focal_length is None:
        if f_number is None or pixel_pitch is None:
            return None
        focal = math.sqrt(kappa * f_number * pixel_pitch)
        return LensComparison(
            f'lens: f/{f_number:g} and {pixel_pitch * 1e6:g} um correspond to a focal length of '
            f'{focal * 1e3:.2f} mm',
            {'focal_length': focal},
        )
    if pixel_pitch is None:
        if f_number is None:
            return None
        pitch = focal_length**2 / (f_number * kappa)
        return LensComparison(
            f'lens: {focal_length * 1e3:g} mm and f/{f_number:g} correspond to a pixel pitch of '
            f'{pitch * 1e6:.3f} um',
            {'pixel_pitch': pitch},
        )
    effective = focal_length**2 / (kappa * pixel_pitch)
    line = f'lens: {focal_length * 1e3:g} mm and {pixel_pitch * 1e6:g} um correspond to '
    line += f'f/{effective:.3f}'
    numbers = {'f_number': effective}
    if f_number is not None:
        expected = focal_length**2 / (f_number * pixel_pitch)
        line += f'; kappa at f/{f_number:g} is {expected:.3f}, {kappa / expected - 1.0:+.1%}'
        numbers['kappa_expected'] = expected
    return LensComparison(line, numbers)


def _lines(result: BlurScale, reference: str) -> list[str]:
    used = int(result.used.sum())
    rms = 4.0 * float(np.sqrt(np.mean(result.residuals[result.used] ** 2)))
    distance = f'{1.0 / result.focus:.3f} m' if result.focus > 1e-3 else 'infinity'
    floor = '' if math.isnan(result.floor) else f'; {4.0 * result.floor:.2f} px in focus'
    return [
        f'blur: kappa = {result.kappa:.4f} px per dioptre (standard error '
        f'{result.kappa_error:.4f}) of {reference}, from the {result.widths.method} in {used} images',
        f'target: sharpest at {result.focus:.4f} dioptres ({distance}){floor}; residual '
        f'{rms:.3f} px of diameter (RMS)',
    ]


def _warnings(result: BlurScale, known: float | None) -> list[str]:
    if known is None or abs(result.focus - known) <= _DISAGREEMENT * max(known, 0.2):
        return []
    return [
        f'the target is sharpest at {result.focus:.3f} dioptres, but its distance is '
        f'{known:.3f}: the focus scale is off (dualfocus calibrate focus)'
    ]


def _figure(result: BlurScale, scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Draw blur over focus, its residuals, and edge profiles."""
    from dualfocus_ros.calibration import calibration_plots as plots
    from dualfocus_ros.io.figures import figure_to_array

    profiles = result.widths.profiles
    figure, upper, lower, right = plots.fit_figure('Blur', three=bool(profiles))
    q = result.widths.dioptres
    measured = 4.0 * result.widths.sigma / scale(q)
    fine = np.linspace(q.min(), q.max(), 300)
    upper.plot(
        fine,
        4.0 * result.sigma(fine),
        color=plots.MODEL,
        label=f'κ = {result.kappa:.2f} px per dioptre',
    )
    used = result.used
    upper.plot(q[used], measured[used], 'o', color=plots.MEASURED, label=result.widths.method)
    if not used.all():
        upper.plot(q[~used], measured[~used], 'x', color=plots.OUT, label='not used')
    upper.axvline(result.focus, color=plots.OUT, linestyle=':')
    upper.set(ylabel='diameter of the blur, px', ylim=(0.0, None))
    upper.legend()
    plots.plot_residuals(lower, q, 4.0 * result.residuals, used)
    lower.set(xlabel='focus, 1/m', ylabel='residual, px')
    if right is not None:
        picks = np.linspace(0, len(profiles) - 1, min(7, len(profiles))).round().astype(int)
        for pick in picks:
            focus, distance, value = profiles[pick]
            right.plot(distance, value, linewidth=1.0, label=f'{focus:.2f}')
        reach = max(0.75 * float(measured.max()), 6.0)
        right.set(
            xlabel='distance from the edge, px',
            ylabel='light, of the step',
            title='Edge profiles',
            xlim=(-reach, reach),
            ylim=(-0.2, 1.2),
        )
        right.legend(fontsize='small', title='focus, 1/m')
    return figure_to_array(figure)
