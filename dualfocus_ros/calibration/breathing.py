# SPDX-License-Identifier: Apache-2.0
"""Focus breathing from images of a flat target: scale 1 + g1 q + g2 q^2 and centre drift.

With the principal point c(q) = c0 + W d q (W the image width, d the drift in image widths per
dioptre) a point x of the reference image, focused at r, lies in the image focused at q at

    c(q) + m(q) / m(r) (x - c(r)),    m(q) = 1 + g1 q + g2 q^2.

A registration gives s = m(q) / m(r) and the shift t of the point c0. Both equations are linear in
the unknowns: g1 (q - s r) + g2 (q^2 - s r^2) = s - 1 and W d (q - s r) = t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.calibration.robust_fit import (
    LinearFit,
    condition_number,
    fit_linear,
    leave_one_out_errors,
)
from dualfocus_ros.calibration.target_images import FocusImage, gradient_energy
from dualfocus_ros.exceptions import CalibrationError

MIN_SETTINGS = 5
MIN_SPAN = 0.4  # of the nearest setting in dioptres
MAX_CONDITION = 100.0
MAX_RESIDUAL = 1.0  # px, after registration: the target is not flat, or something moved
MAX_LEFT_OUT = 0.75  # px at the edge of the image
_PREBLUR = 1.5
_MAX_RADIUS = 24.0


@dataclass(frozen=True)
class RegisteredView:
    """How one image maps onto the reference image.

    :param scale: of this image, 1 for the reference.
    :param shift: x, y in pixels that the centre c0 lies away from where the reference has it.
    :param residual_px: median shift of tiles that remains; NaN for too little texture.
    """

    dioptres: float
    scale: float
    shift: tuple[float, float]
    residual_px: float


@dataclass(frozen=True, eq=False)
class BreathingFit:
    """The result.

    :param coefficients: g1, g2 in 1/dioptre and 1/dioptre^2.
    :param errors: their standard errors.
    :param covariance: (2, 2).
    :param drift: x, y in image widths per dioptre.
    :param drift_errors: their standard errors.
    :param scale_fit: residuals are of the scale.
    :param drift_fits: residuals of x and y, in pixels.
    :param left_out_px: RMS over the settings, of the scale that the others predict, in pixels at
        the edge of the image.
    :param width: of the images in pixels.
    """

    coefficients: tuple[float, float]
    errors: tuple[float, float]
    covariance: np.ndarray
    drift: tuple[float, float]
    drift_errors: tuple[float, float]
    views: tuple[RegisteredView, ...]
    reference: float
    scale_fit: LinearFit
    drift_fits: tuple[LinearFit, LinearFit]
    left_out_px: float
    width: int

    def scale(self, dioptres: np.ndarray) -> np.ndarray:
        """Return m(q)."""
        g1, g2 = self.coefficients
        return 1.0 + g1 * dioptres + g2 * dioptres**2


def measure_views(
    settings: Sequence[Sequence[FocusImage]],
    centre: tuple[float, float] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> tuple[list[RegisteredView], float, int]:
    """Register all images to a sharp one.

    :param settings: images of each focus setting.
    :param centre: principal point x, y at infinity focus in pixels; by default the middle.
    :param progress: called once per image.
    :returns: the views, the focus of the reference, and the width of the images.
    :raises CalibrationError: for too few settings, or images that cannot be registered.
    """
    _check_settings([group[0].dioptres for group in settings])
    # Blur adds up in light: in encoded values a bright card would seem to grow out of focus.
    grey = [[255.0 * image.light() for image in group] for group in settings]
    sharp = [gradient_energy(cv2.GaussianBlur(group[0], (0, 0), _PREBLUR)) for group in grey]
    best = int(np.argmax(sharp))
    first, reference = grey[best][0], settings[best][0].dioptres
    shape = first.shape
    middle = centre or ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    views, lost = [], []
    # Outward from the reference, each starting from its neighbour's transform.
    order = sorted(range(len(settings)), key=lambda n: abs(n - best))
    found: dict[int, np.ndarray] = {best: np.eye(3)}
    for n in order:
        for k, image in enumerate(grey[n]):
            if (n, k) == (best, 0):
                views.append(RegisteredView(reference, 1.0, (0.0, 0.0), 0.0))
                progress()
                continue
            inner = n + (n < best) - (n > best)
            pair = equalize_blur(first, image)
            transform = registration.register(*pair, found.get(inner, np.eye(3)))
            progress()
            if transform is None:
                lost.append(settings[n][k].dioptres)
                continue
            found[n] = transform
            scale, shift = refine_similarity(
                *pair, *fit_similarity(transform, shape, middle), middle
            )
            moved = np.array(
                [
                    [scale, 0.0, middle[0] * (1.0 - scale) + shift[0]],
                    [0.0, scale, middle[1] * (1.0 - scale) + shift[1]],
                    [0.0, 0.0, 1.0],
                ]
            )
            remains = registration.residual_shift(pair[0], registration.warp(pair[1], moved))
            views.append(RegisteredView(settings[n][k].dioptres, scale, shift, remains))
    used = sorted({view.dioptres for view in views})
    if len(used) < MIN_SETTINGS:
        raise CalibrationError(
            f'only {len(used)} of {len(settings)} focus settings could be registered to the '
            f'sharpest one ({reference:.2f} dioptres; lost: '
            f'{", ".join(f"{q:.2f}" for q in sorted(set(lost)))}): use a target with coarse and '
            'fine texture over the whole image, in the middle of the focus range'
        )
    return views, reference, shape[1]


def fit_breathing(views: Sequence[RegisteredView], reference: float, width: int) -> BreathingFit:
    """Fit the polynomial and the drift.

    :param reference: focus of the image that the views map onto.
    :param width: of the images in pixels.
    :raises CalibrationError: for settings that do not determine it, or views that contradict it.
    """
    q = np.array([view.dioptres for view in views])
    s = np.array([view.scale for view in views])
    shift = np.array([view.shift for view in views])
    _check_settings(q)
    remains = [view.residual_px for view in views if math.isfinite(view.residual_px)]
    if remains and float(np.median(remains)) > MAX_RESIDUAL:
        raise CalibrationError(
            f'after scaling, the images are still {np.median(remains):.2f} pixels apart '
            '(median): the target must be flat and square to the camera, and both at rest'
        )
    linear = q - s * reference
    design = np.stack([linear, q**2 - s * reference**2], axis=1)
    away = np.abs(linear) > 1e-9  # the reference says nothing about itself
    number = condition_number(design[away])
    if number > MAX_CONDITION:
        raise CalibrationError(
            f'the settings from {q.min():.2f} to {q.max():.2f} dioptres cannot tell g1 from g2 '
            f'(condition number {number:.0f}): spread them over the whole focus range'
        )
    half = 0.5 * width
    fit = fit_linear(design[away], (s - 1.0)[away], scale_floor=0.02 / half)
    errors = leave_one_out_errors(design[away], (s - 1.0)[away], q[away])
    left_out_px = half * float(np.sqrt(np.mean(errors**2)))
    if left_out_px > MAX_LEFT_OUT:
        worst = q[away][int(np.argmax(np.abs(errors)))]
        raise CalibrationError(
            f'the scale at one setting is not what the others predict: {left_out_px:.2f} pixels '
            f'at the edge of the image (RMS), the worst at {worst:.2f} dioptres. Keep camera and '
            'target on firm stands, let the lens settle, or record more settings'
        )
    drifts = [
        fit_linear(width * linear[away, None], shift[away, axis], scale_floor=0.02)
        for axis in (0, 1)
    ]
    g1, g2 = fit.coefficients
    return BreathingFit(
        (float(g1), float(g2)),
        (float(fit.errors[0]), float(fit.errors[1])),
        fit.covariance,
        (float(drifts[0].coefficients[0]), float(drifts[1].coefficients[0])),
        (float(drifts[0].errors[0]), float(drifts[1].errors[0])),
        tuple(views),
        reference,
        fit,
        (drifts[0], drifts[1]),
        left_out_px,
        width,
    )


def equalize_blur(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Defocus the sharper of two (H, W) images until their gradients have the same energy."""
    energies = [gradient_energy(cv2.GaussianBlur(i, (0, 0), _PREBLUR)) for i in (first, second)]
    if energies[0] < energies[1]:
        blurred, other = equalize_blur(second, first)
        return other, blurred
    from dualfocus_ros.simulation.psf import MIN_RADIUS

    low, high = 0.0, min(_MAX_RADIUS, 0.1 * min(first.shape))
    for _ in range(8):
        radius = 0.5 * (low + high)
        trial = disc_blur(first, radius)
        if gradient_energy(cv2.GaussianBlur(trial, (0, 0), _PREBLUR)) > energies[1]:
            low = radius
        else:
            high = radius
    return (first if high < MIN_RADIUS else disc_blur(first, 0.5 * (low + high))), second


def disc_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Return an (H, W) float32 image blurred by a disc of ``radius`` pixels."""
    # Here, because torch takes seconds to load, and the help of a command shall not.
    import torch

    from dualfocus_ros.simulation.psf import Aperture, blur_kernels

    kernel = blur_kernels(torch.tensor([radius]), Aperture('disc', softness=0.0))[0].numpy()
    return np.asarray(cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101))


def refine_similarity(
    first: np.ndarray,
    second: np.ndarray,
    scale: float,
    shift: tuple[float, float],
    centre: tuple[float, float],
) -> tuple[float, tuple[float, float]]:
    """Improve scale and shift from ``first`` to ``second`` by Gauss-Newton on all pixels.

    With only these unknowns and a gain, a hundredth of a pixel is possible, where a homography
    also follows the blur. What differs slowly over the image (vignetting) is taken out first.
    """
    one, two = (_band_pass(image) for image in (first, second))
    height, width = one.shape
    margin = round(0.08 * min(height, width))
    x, y = np.meshgrid(
        np.arange(margin, width - margin, dtype=np.float32) - centre[0],
        np.arange(margin, height - margin, dtype=np.float32) - centre[1],
    )
    target = one[margin : height - margin, margin : width - margin].ravel()
    slopes = [cv2.Scharr(two, cv2.CV_32F, *axis) / 32.0 for axis in ((1, 0), (0, 1))]
    state = np.array([scale, *shift])
    for _ in range(20):
        at_x = (centre[0] + state[0] * x + state[1]).astype(np.float32)
        at_y = (centre[1] + state[0] * y + state[2]).astype(np.float32)
        value, gx, gy = (
            # Not cubic: that of OpenCV displaces by up to 0.05 pixels.
            cv2.remap(i, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).ravel()
            for i in (two, *slopes)
        )
        gain = float(target @ value) / max(float(value @ value), 1e-12)
        along = gx * x.ravel() + gy * y.ravel()
        jacobian = gain * np.stack([along, gx, gy, value / gain], axis=1)
        step = np.linalg.lstsq(
            jacobian.T @ jacobian, jacobian.T @ (target - gain * value), rcond=None
        )[0][:3]
        state += step
        if abs(step[0]) * width < 1e-3 and np.hypot(step[1], step[2]) < 1e-3:
            break
    return float(state[0]), (float(state[1]), float(state[2]))


def _band_pass(image: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    return np.asarray(smooth - cv2.GaussianBlur(image, (0, 0), 12.0))


def fit_similarity(
    transform: np.ndarray, shape: tuple[int, ...], centre: tuple[float, float]
) -> tuple[float, tuple[float, float]]:
    """Return the scale and the shift of ``centre`` that best describe a homography.

    Least squares over the image of x' = centre + scale (x - centre) + shift.
    """
    height, width = shape[:2]
    x, y = np.meshgrid(
        np.linspace(0.1, 0.9, 9) * (width - 1), np.linspace(0.1, 0.9, 9) * (height - 1)
    )
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    offset = points - centre
    moved = registration.transform_points(transform, points) - centre
    mean, mean_moved = offset.mean(axis=0), moved.mean(axis=0)
    about = offset - mean
    scale = float(np.sum(about * (moved - mean_moved)) / np.sum(about**2))
    shift = mean_moved - scale * mean
    return scale, (float(shift[0]), float(shift[1]))


def _check_settings(dioptres: Sequence[float] | np.ndarray) -> None:
    known = np.unique(np.round(dioptres, 3))
    if len(known) < MIN_SETTINGS:
        raise CalibrationError(
            f'{len(known)} focus setting{"s" * (len(known) != 1)} with images at rest: at least '
            f'{MIN_SETTINGS} are needed to fit breathing and to check the fit'
        )
    if known[-1] - known[0] < MIN_SPAN * known[-1]:
        raise CalibrationError(
            f'the focus settings reach only from {known[0]:.2f} to {known[-1]:.2f} dioptres: '
            'spread them over the range that is to be used'
        )
