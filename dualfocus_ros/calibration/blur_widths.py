# SPDX-License-Identifier: Apache-2.0
"""Blur of a target at many focus settings, at a slanted edge or from the spectrum of a texture.

The power spectrum of a texture over that of the sharpest image is the squared ratio of their
transfer functions, independent of texture and position. A disc of radius r has the transfer
function 2 J1(u) / u with u = 2 pi f r (Goodman, Introduction to Fourier Optics). Only low
frequencies are used, at which the texture is far above noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import itertools

import cv2
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import j1

from dualfocus_ros.calibration.edge_blur import edge_width, find_edge
from dualfocus_ros.calibration.target_images import FocusImage, Region, sharpness
from dualfocus_ros.exceptions import CalibrationError

METHODS = ('auto', 'edge', 'texture')
MIN_SETTINGS = 6
_TILE = 128
_HIGHEST = 2.2  # largest u, with a transfer function of 0.5
_FEWEST = 4  # frequencies
_LARGEST = 0.19  # radius in periods of the lowest frequency


@dataclass(frozen=True, eq=False)
class BlurWidths:
    """Blur of each image.

    :param dioptres: (N,).
    :param sigma: (N,) standard deviation along an axis in pixels; with ``texture`` relative to
        the sharpest image.
    :param method: ``edge`` or ``texture``.
    :param profiles: dioptres, distances and values of each edge profile.
    """

    dioptres: np.ndarray
    sigma: np.ndarray
    method: str
    profiles: tuple[tuple[float, np.ndarray, np.ndarray], ...] = ()


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
    :raises CalibrationError: for too few settings, or a target without edge and texture.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got {method!r}')
    check_count([group[0].dioptres for group in settings], 'with images at rest')
    sharp = [sharpness(group[0], region) for group in settings]
    reference = settings[int(np.argmax(sharp))][0]
    edge = find_edge(reference.luminance(region)) if method != 'texture' else None
    if method == 'edge' and edge is None:
        raise CalibrationError(
            'no slanted edge was found in the sharpest image: it must be straight, turned by 2 to '
            '30 degrees against the rows or columns, between two even areas of different '
            'brightness. Select its region, or use the method texture, which needs no edge'
        )
    frequencies, before = np.empty(0), np.empty(0)
    if edge is None:
        frequencies, before = power_spectrum(reference.luminance(region))
    dioptres, sigma, profiles = [], [], []
    for image in (image for group in settings for image in group):
        light = image.luminance(region)
        width: float | None = None
        if edge is not None:
            measured = edge_width(light, edge)
            if measured is not None:
                width = measured[0]
                profiles.append((image.dioptres, *measured[1:]))
        elif image is reference:
            width = 0.0
        else:
            radius = relative_radius(frequencies, power_spectrum(light)[1], before)
            width = None if radius is None else 0.5 * radius
        progress()
        if width is not None:
            dioptres.append(image.dioptres)
            sigma.append(width)
    kind = 'texture' if edge is None else 'edge'
    return BlurWidths(np.array(dioptres), np.array(sigma), kind, tuple(profiles))


def check_count(dioptres: Sequence[float] | np.ndarray, condition: str) -> None:
    """Check the number of different focus settings."""
    count = len(np.unique(np.round(dioptres, 3)))
    if count < MIN_SETTINGS:
        raise CalibrationError(
            f'{count} focus setting{"s" * (count != 1)} {condition}: at least {MIN_SETTINGS} are '
            'needed, on both sides of the target'
        )


def power_spectrum(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in cycles a pixel and the mean power at each, over tiles of the image.

    :param light: (H, W) linear light.
    :raises ValueError: if the image is smaller than 64 pixels.
    """
    tile = min(_TILE, min(light.shape))
    if tile < 64:
        raise ValueError(f'texture needs a region of at least 64 x 64 pixels, got {light.shape}')
    window = cv2.createHanningWindow((tile, tile), cv2.CV_32F)
    total = np.zeros((tile, tile // 2 + 1))
    rows, columns = (
        np.unique(np.linspace(0, size - tile, -(-2 * size // tile) - 1)).astype(int)
        for size in light.shape
    )
    for top, left in itertools.product(rows, columns):
        part = light[top : top + tile, left : left + tile]
        total += np.abs(np.fft.rfft2((part - part.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(tile)[:, None], np.fft.rfftfreq(tile)[None, :])
    bins = np.round(radius * tile).astype(int)
    count = np.bincount(bins.ravel())
    power = np.bincount(bins.ravel(), total.ravel()) / count
    # The window spreads the mean over the lowest two; only corners exceed half a cycle.
    some = slice(2, tile // 2)
    return np.arange(len(power))[some] / tile, power[some]


def relative_radius(
    frequencies: np.ndarray, blurred: np.ndarray, sharp: np.ndarray
) -> float | None:
    """Return the radius in pixels of the disc that maps the sharp to the blurred spectrum.

    Independent of a difference in brightness.

    :returns: None for more blur than the tiles can resolve.
    """
    largest = _LARGEST / frequencies[0]
    floor = 4.0 * np.median(blurred[-len(blurred) // 5 :])
    # Stop where the signal first falls to the noise; side lobes may rise again beyond.
    at_noise = np.nonzero(blurred < floor)[0]
    usable = at_noise[0] if len(at_noise) and at_noise[0] > _FEWEST else len(blurred)
    ratio = np.log(blurred / sharp)
    radius = largest
    for _ in range(30):
        count = int(np.sum(frequencies <= _HIGHEST / (2.0 * np.pi * max(radius, 0.5))))
        count = min(max(count, _FEWEST), usable)
        f, measured = frequencies[:count], ratio[:count]
        weight = np.sqrt(f)  # number of samples on the ring
        bounds = (0.0, min(largest, 3.8 / (2 * np.pi * f[-1])))
        found = minimize_scalar(
            _misfit, None, bounds, (f, measured, weight), 'bounded', options={'xatol': 1e-3}
        )
        fresh = float(found.x)
        if abs(fresh - radius) < 2e-3:
            break
        radius = 0.5 * (radius + fresh)
    return radius if radius < 0.95 * largest else None


def _misfit(r: float, f: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> float:
    """Return the deviation of a log spectrum from that of a disc, but for a constant."""
    u = np.maximum(2.0 * np.pi * f * r, 1e-9)
    off = measured - 2.0 * np.log(np.maximum(np.abs(2.0 * j1(u) / u), 1e-3))
    off = off - np.average(off, weights=weight)
    return float(np.average(off**2, weights=weight))
