# SPDX-License-Identifier: Apache-2.0
"""Images of a target with their focus, from a folder; their sharpness and its peak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import re
from typing import Literal

import cv2
import numpy as np

from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear, parabola_vertex
from dualfocus_ros.exceptions import CalibrationError, ConfigError, DataError
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, list_images
from dualfocus_ros.io.stack_files import read_stack_image, to_uint8

MIN_SWEEP = 5  # positions
MIN_CONTRAST = 1.3
_POWERS = np.geomspace(0.4, 3.0, 16)
_MIN_RELATIVE = 0.1  # of the peak; smaller measures are not fitted
_MAX_MISFIT = 0.15
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
_MAX_SETTINGS = 64
_SMOOTHING = 0.7  # px
_NUMBER = re.compile(r'-?\d+(?:\.\d+)?')


@dataclass(frozen=True, eq=False)
class FocusImage:
    """Image with its focus.

    :param pixels: (H, W) or RGB (H, W, 3), uint8.
    :param dioptres: focus in 1/m; NaN if unknown.
    :param position: of the lens in driver units; NaN if unknown.
    :param moving: whether the lens was reported as moving.
    :param linear: whether values are proportional to light (industrial cameras), not sRGB.
    """

    pixels: np.ndarray
    dioptres: float = math.nan
    position: float = math.nan
    stamp_ns: int = 0
    moving: bool = False
    linear: bool = False

    def luminance(self, region: Region | None = None) -> np.ndarray:
        """Return (H, W) float32 linear luminance, 0 to 1, of the image or a region of it."""
        # Imported here: it loads torch slowly, and the help of the command does not need it.
        from dualfocus_ros.camera.srgb import decode_srgb8

        if self.linear:
            light = self.pixels.astype(np.float32) / np.float32(255.0)
        else:
            light = decode_srgb8(self.pixels)
        if light.ndim == 3:
            light = np.asarray(light @ _LUMA)
        return light if region is None else region.crop(light)


@dataclass(frozen=True)
class Region:
    """Rectangle of an image in pixels."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def central(cls, shape: tuple[int, ...], share: float) -> Region:
        """Return the centre of an image, a share of its width and height."""
        height, width = round(shape[0] * share), round(shape[1] * share)
        return cls((shape[1] - width) // 2, (shape[0] - height) // 2, width, height)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Return the region of an image.

        :raises ValueError: if it is not inside the image.
        """
        height, width = image.shape[:2]
        right, bottom = self.x + self.width, self.y + self.height
        if (
            min(self.x, self.y) < 0
            or min(self.width, self.height) < 16
            or (right > width or bottom > height)
        ):
            raise ValueError(
                f'the region {self.x},{self.y},{self.width},{self.height} (x, y, width, height) '
                f'must lie in the image of {width} x {height} and be 16 pixels wide and high'
            )
        return image[self.y : bottom, self.x : right]


def read_image_folder(
    folder: Path,
    unit: Literal['dioptres', 'position'] = 'dioptres',
    values: Sequence[float] | None = None,
    linear: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[FocusImage]:
    """Yield the images of a folder with their focus, in natural order of their names.

    :param unit: of the focus: 1/m, or driver units of the lens.
    :param values: focus of each image; by default the last number in each file name.
    :param linear: whether values are proportional to light.
    :param progress: called once per image.
    :raises DataError: without images or numbers in their names.
    :raises ConfigError: for a wrong number of values.
    """
    paths = list_images(folder)
    if not paths:
        raise DataError(
            f'{folder}: no images in this folder (known: {" ".join(sorted(IMAGE_SUFFIXES))})'
        )
    if values is None:
        values = [_last_number(path) for path in paths]
    if len(values) != len(paths):
        raise ConfigError(f'values: {len(values)} numbers for {len(paths)} images of {folder}')
    for path, value in zip(paths, values, strict=True):
        pixels = to_uint8([read_stack_image(path).pixels])[0]
        progress()
        focus = (value, math.nan) if unit == 'dioptres' else (math.nan, value)
        yield FocusImage(pixels, *focus, linear=linear)


def _last_number(path: Path) -> float:
    found = _NUMBER.findall(path.stem)
    if not found:
        raise DataError(
            f'{path} has no number in its name: name each image by its focus, such as '
            'focus_1.25.png, or give the values'
        )
    return float(found[-1])


def sharpness(image: FocusImage, region: Region | None = None) -> float:
    """Return the gradient energy of a slightly smoothed image over its squared brightness.

    Stronger smoothing suppresses more noise, but lets focus breathing shift the peak, because the
    image scale stretches gradients.
    """
    part = image.luminance(region or Region.central(image.pixels.shape, 0.5))
    energy = gradient_energy(cv2.GaussianBlur(part, (0, 0), _SMOOTHING))
    return energy / max(float(part.mean()), 1e-6) ** 2


def block_sharpness(image: FocusImage, region: Region, size: int) -> np.ndarray:
    """Return :func:`sharpness` of the square blocks of a region, (rows, columns).

    :param size: of a block in pixels; incomplete blocks at the right and bottom are dropped.
    """
    part = image.luminance(region)
    smooth = cv2.GaussianBlur(part, (0, 0), _SMOOTHING)
    energy = np.zeros_like(smooth)
    energy[:, 1:] += (smooth[:, 1:] - smooth[:, :-1]) ** 2
    energy[1:] += (smooth[1:] - smooth[:-1]) ** 2
    rows, columns = part.shape[0] // size, part.shape[1] // size

    def means(values: np.ndarray) -> np.ndarray:
        cut = values[: rows * size, : columns * size]
        return np.asarray(cut.reshape(rows, size, columns, size).mean(axis=(1, 3)))

    return means(energy) / np.maximum(means(part), 1e-6) ** 2


def gradient_energy(image: np.ndarray) -> float:
    """Return the mean squared gradient of an (H, W) float image."""
    columns = image[:, 1:] - image[:, :-1]
    rows = image[1:] - image[:-1]
    return float(np.mean(columns * columns) + np.mean(rows * rows))


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
            'the sharpest image is hardly sharper than the most blurred one '
            f'({contrast:.2f} times): '
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
    """Fit energy^(-1/power) by a parabola, with equal relative errors."""
    # The gradient energy of a texture under blur of variance v is proportional to v^-2 for white
    # noise and to v^-1/2 for single edges, and v is a parabola in dioptres.
    values = energy ** (-1.0 / power)
    design = np.vander(x, 3, increasing=True) / values[:, None]
    return fit_linear(design, np.ones_like(x), scale_floor=0.005)


def group_by_focus(
    images: Iterable[FocusImage], keep: int, tolerance: float = 0.005
) -> list[list[FocusImage]]:
    """Return the images at rest, grouped by focus, from far to near.

    :param images: any number; only the returned ones are kept in memory.
    :param keep: number of images per setting, the last ones.
    :param tolerance: largest difference within a setting, in dioptres.
    :raises CalibrationError: for a continuous sweep, or images of several sizes.
    """
    groups: dict[int, list[FocusImage]] = {}
    sizes = set()
    for image in images:
        if image.moving or not math.isfinite(image.dioptres):
            continue
        sizes.add(image.pixels.shape[:2])
        if len(sizes) > 1:
            first, second = sorted(f'{width} x {height}' for height, width in sizes)
            raise CalibrationError(
                f'the images differ in size ({first} and {second}): record one camera in one mode'
            )
        group = groups.setdefault(round(image.dioptres / tolerance), [])
        group.append(image)
        del group[:-keep]
        if len(groups) > _MAX_SETTINGS:
            raise CalibrationError(
                f'there are more than {_MAX_SETTINGS} different focus settings: move the lens in '
                'steps and wait at each of them, such as with focus_sweep_node'
            )
    return [groups[key] for key in sorted(groups)]
