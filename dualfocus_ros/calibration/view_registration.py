# SPDX-License-Identifier: Apache-2.0
"""Registration of images of a flat target at different focus: scale and shift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dualfocus_ros.alignment import registration
from dualfocus_ros.calibration.target_images import FocusImage, gradient_energy
from dualfocus_ros.exceptions import CalibrationError

MIN_SETTINGS = 5
MIN_SPAN = 0.4  # of the nearest setting in dioptres
_PREBLUR = 1.5
_MAX_RADIUS = 24.0


@dataclass(frozen=True)
class RegisteredView:
    """Similarity from the reference image to one image.

    :param scale: 1 for the reference.
    :param shift_px: x, y of the centre c0 relative to the reference.
    :param residual_px: median residual shift of tiles; NaN for too little texture.
    """

    dioptres: float
    scale: float
    shift_px: tuple[float, float]
    residual_px: float


def measure_views(
    settings: Sequence[Sequence[FocusImage]],
    centre: tuple[float, float] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> tuple[list[RegisteredView], float, int]:
    """Register all images to the sharpest one.

    :param settings: images of each focus setting.
    :param centre: principal point x, y at infinity focus in pixels; default the image centre.
    :returns: the views, the focus of the reference, and the width of the images.
    :raises CalibrationError: for too few settings, or images that cannot be registered.
    """
    check_settings([group[0].dioptres for group in settings])
    # Linear light: in encoded values a bright area seems to grow when it is out of focus.
    grey = [[255.0 * image.luminance() for image in group] for group in settings]
    sharp = [gradient_energy(cv2.GaussianBlur(group[0], (0, 0), _PREBLUR)) for group in grey]
    best = int(np.argmax(sharp))
    first, reference = grey[best][0], settings[best][0].dioptres
    shape = first.shape
    middle = centre or ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    views, lost = [], []
    # Outward from the reference, each initialised with the transform of its neighbour.
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
            moved = np.diag((scale, scale, 1.0))
            moved[:2, 2] = np.multiply(middle, 1.0 - scale) + shift
            residual = registration.residual_shift(pair[0], registration.warp(pair[1], moved))
            views.append(RegisteredView(settings[n][k].dioptres, scale, shift, residual))
    used = sorted({view.dioptres for view in views})
    if len(used) < MIN_SETTINGS:
        raise CalibrationError(
            f'only {len(used)} of {len(settings)} focus settings could be registered to the '
            f'sharpest one ({reference:.2f} dioptres; lost: '
            f'{", ".join(f"{q:.2f}" for q in sorted(set(lost)))}): use a target with coarse and '
            'fine texture over the whole image, in the middle of the focus range'
        )
    return views, reference, shape[1]


def check_settings(dioptres: Sequence[float] | np.ndarray) -> None:
    """Check the number and the span of the focus settings.

    :raises CalibrationError: for too few settings or too small a span.
    """
    known = np.unique(np.round(dioptres, 3))
    if len(known) < MIN_SETTINGS:
        raise CalibrationError(
            f'{len(known)} focus setting{"s" * (len(known) != 1)} with images at rest: at least '
            f'{MIN_SETTINGS} are needed to fit breathing and to check the fit'
        )
    if known[-1] - known[0] < MIN_SPAN * known[-1]:
        raise CalibrationError(
            f'the focus settings reach only from {known[0]:.2f} to {known[-1]:.2f} dioptres: '
            'spread them over the range of use'
        )


def equalize_blur(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blur the sharper of two (H, W) images until their gradient energies are equal."""
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
    """Return an (H, W) float32 image convolved with a disc of ``radius`` pixels."""
    # Imported here: torch loads slowly, and the help of the command does not need it.
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
    """Refine scale and shift from ``first`` to ``second`` by Gauss-Newton on all pixels.

    Three unknowns and a gain reach a hundredth of a pixel; a homography would also fit the blur.
    A band-pass removes vignetting first.
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
            # Linear: the cubic interpolation of OpenCV displaces by up to 0.05 pixels.
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
    """Return the scale and the shift of ``centre`` closest to a homography.

    Least squares over the image of x' = centre + scale (x - centre) + shift.
    """
    height, width = shape[:2]
    x, y = np.meshgrid(
        np.linspace(0.1, 0.9, 9) * (width - 1), np.linspace(0.1, 0.9, 9) * (height - 1)
    )
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    offset = points - centre
    moved = registration.transform_points(transform, points) - centre
    about = offset - offset.mean(axis=0)
    scale = float(np.sum(about * (moved - moved.mean(axis=0))) / np.sum(about**2))
    x_shift, y_shift = (moved.mean(axis=0) - scale * offset.mean(axis=0)).tolist()
    return scale, (x_shift, y_shift)
