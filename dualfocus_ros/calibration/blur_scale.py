# SPDX-License-Identifier: Apache-2.0
"""kappa, the pixels of blur per dioptre, from images of a flat target at many focus settings.

The circle of confusion of a target at 1/q0 metres has the diameter kappa |q - q0|, and a disc of
diameter c the standard deviation c / 4 across. With what is blurred even in focus (aberrations,
diffraction, pixels) the variance is the parabola sigma^2 = sigma0^2 + (kappa / 4)^2 (q - q0)^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.calibration.edge_blur import Edge, edge_width, find_edge
from dualfocus_ros.calibration.robust_fit import condition_number, fit_linear
from dualfocus_ros.calibration.target_images import FocusImage, Region, sharpness
from dualfocus_ros.calibration.texture_blur import power_spectrum, relative_radius
from dualfocus_ros.exceptions import CalibrationError

METHODS = ('auto', 'edge', 'texture')
MIN_SETTINGS = 6
MIN_BLUR = 6.0  # px of diameter at the most blurred setting, or the floor hides the slope
# Less blur (px of diameter) is ruled by pixels and aberrations and no lens is thin there.
GEOMETRIC_BLUR = 3.0
MAX_RESIDUAL = 0.1  # of the largest blur
MAX_CONDITION = 1e4


@dataclass(frozen=True, eq=False)
class BlurWidths:
    """Blur of each image.

    :param dioptres: (N,).
    :param sigma: (N,) standard deviation across in pixels; with ``texture`` of the blur that the
        sharpest image does not have.
    :param method: ``edge`` or ``texture``.
    :param edge: where it was measured.
    :param profiles: of the edge: dioptres, distances, values.
    """

    dioptres: np.ndarray
    sigma: np.ndarray
    method: str
    edge: Edge | None = None
    profiles: tuple[tuple[float, np.ndarray, np.ndarray], ...] = ()


@dataclass(frozen=True, eq=False)
class BlurScale:
    """The result.

    :param kappa: diameter of the circle of confusion in pixels per dioptre.
    :param focus: dioptres at which the target is sharpest.
    :param floor: standard deviation of the blur that remains in focus, in pixels; NaN where the
        method does not tell it.
    :param residuals: (N,) measured minus fitted standard deviation in pixels.
    :param used: (N,) bool, False for outliers and where there is too little blur to tell.
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
    :param method: ``edge``, ``texture``, or ``auto`` for an edge where there is one.
    :param region: where the target is; by default the whole image.
    :param progress: called once per image.
    :raises CalibrationError: for too few settings, or a target without edge and texture.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got {method!r}')
    _check_number(len(settings), 'with images at rest')
    sharp = [sharpness(group[0], region) for group in settings]
    reference = settings[int(np.argmax(sharp))][0]

    def light(image: FocusImage) -> np.ndarray:
        whole = image.light()
        return whole if region is None else region.cut(whole)

    edge = find_edge(light(reference)) if method != 'texture' else None
    if method == 'edge' and edge is None:
        raise CalibrationError(
            'no slanted edge was found in the sharpest image: it must be straight, turned by 2 to '
            '30 degrees against the rows or columns, between two even areas of different '
            'brightness; --region says where it is, --method texture does without'
        )
    found: list[tuple[float, float]] = []
    profiles = []
    if edge is not None:
        for image in (image for group in settings for image in group):
            measured = edge_width(light(image), edge)
            progress()
            if measured is None:
                continue
            found.append((image.dioptres, measured[0]))
            profiles.append((image.dioptres, *measured[1:]))
        kind = 'edge'
    else:
        frequencies, before = power_spectrum(light(reference))
        for image in (image for group in settings for image in group):
            progress()
            if image is reference:
                found.append((image.dioptres, 0.0))
                continue
            _, power = power_spectrum(light(image))
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

    :param scale: magnification m(q) of the image; the blur is divided by it, so that kappa is
        that of the image focused at infinity. By default the image is taken to be of one scale,
        and kappa is that at the focus of the target.
    :param focus: known inverse distance of the target, for sweeps that do not pass it.
    :raises CalibrationError: for widths that do not determine it, or that contradict it.
    """
    q = widths.dioptres
    _check_number(len(np.unique(np.round(q, 3))), 'in which the blur could be measured')
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
    _check_number(
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
            f'the blur does not follow a thin lens: {4.0 * rms:.2f} pixels (diameter, RMS) off, '
            f'{outliers} of {int(blurred.sum())} images far off. The target must be flat, the '
            'lens at rest in every image and its focus scale right (dualfocus calibrate focus)'
        )
    return BlurScale(kappa, kappa_error, focus, focus_error, floor, widths, residuals, used)


def _check_number(count: int, what: str) -> None:
    if count < MIN_SETTINGS:
        raise CalibrationError(
            f'{count} focus setting{"s" * (count != 1)} {what}: at least {MIN_SETTINGS} are '
            'needed, on both sides of the target'
        )
