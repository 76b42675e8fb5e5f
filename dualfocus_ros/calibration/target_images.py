# SPDX-License-Identifier: Apache-2.0
"""Images of a target with their focus, from a folder, and measures of sharpness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import re
from typing import Literal

import cv2
import numpy as np

from dualfocus_ros.exceptions import CalibrationError, ConfigError, DataError
from dualfocus_ros.io.image_files import IMAGE_SUFFIXES, list_images
from dualfocus_ros.io.stack_files import read_stack_image, to_uint8

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
        inside = (
            self.x >= 0
            and self.y >= 0
            and self.width >= 16
            and self.height >= 16
            and self.x + self.width <= width
            and self.y + self.height <= height
        )
        if not inside:
            raise ValueError(
                f'the region {self.x},{self.y},{self.width},{self.height} (x, y, width, height) '
                f'must lie in the image of {width} x {height} and be 16 pixels wide and high'
            )
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


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
        if unit == 'position':
            yield FocusImage(pixels, position=value, linear=linear)
        else:
            yield FocusImage(pixels, dioptres=value, linear=linear)


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
