# SPDX-License-Identifier: Apache-2.0
"""Data sets, their samples (images with depth, or focal stacks) and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.stack_files import parse_float

# Options of a data set, such as ``count=16`` or ``crop=20:20``.
Options = Mapping[str, str]

# Unit of the focus of a stack: unit of its focus and truth. Sharpness is a function of inverse
# depth, so every unit but metres must be affine in dioptres.
UNITS = {
    'metres': 'focus in metres, truth in metres',
    'dioptres': 'focus in 1/m, truth in metres',
    'disparity': 'focus and truth in disparity, 0 at infinity',
    'shift': 'focus and truth in pixels of refocusing shift, arbitrary zero',
    'slices': 'focus and truth in plane numbers',
}
METRIC_UNITS = ('metres', 'dioptres')


@dataclass(frozen=True, eq=False)
class RgbdSample:
    """Sharp colour image with depth.

    :param colour: (H, W, 3) uint8 sRGB.
    :param depth: (H, W) float32 metres along the optical axis, NaN where unknown.
    :raises DataError: for other types or sizes, or without any known depth.
    """

    name: str
    colour: np.ndarray
    depth: np.ndarray

    def __post_init__(self) -> None:
        if self.colour.dtype != np.uint8 or self.colour.shape != (*self.depth.shape, 3):
            raise DataError(
                f'{self.name}: expected a uint8 image (H, W, 3) and depth (H, W), '
                f'got {self.colour.dtype} {self.colour.shape} and {self.depth.shape}'
            )
        if not np.isfinite(self.depth).any():
            raise DataError(f'{self.name}: no pixel has a valid depth')


@dataclass(frozen=True, eq=False)
class StackSample:
    """Recorded focal stack, with its truth if there is one.

    :param images: (N, H, W, 3) uint8 sRGB, aligned.
    :param focus: (N,) float64 in ``unit``, in the order of the images.
    :param unit: one of :data:`UNITS`.
    :param truth: (H, W) float32 in metres for metric units, otherwise in the unit of focus; NaN
        where unknown or excluded. None: no truth.
    :param limit: clip truth and estimates to this value, as in the evaluation of FoD500.
    :param plane: rows and columns of a region that is flat in space, where inverse depth must be
        linear in pixel coordinates.
    :raises DataError: for fewer than 2 planes, or fields that contradict each other.
    """

    name: str
    images: np.ndarray
    focus: np.ndarray
    unit: str
    truth: np.ndarray | None = None
    limit: float | None = None
    plane: tuple[slice, slice] | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise DataError(f"unit must be one of {', '.join(UNITS)}, got '{self.unit}'")
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.images.shape[3] != 3:
            raise DataError(
                f'{self.name}: expected uint8 images (N, H, W, 3), '
                f'got {self.images.dtype} {self.images.shape}'
            )
        if self.focus.shape != (len(self.images),):
            raise DataError(
                f'{self.name}: {len(self.images)} images but {len(self.focus)} focus values'
            )
        if len(self.images) < 2 or len(np.unique(self.focus)) < 2:
            raise DataError(
                f'{self.name}: depth from focus needs 2 or more planes at different focus, got '
                f'{len(self.images)} at {np.unique(self.focus).tolist()}'
            )
        if not np.isfinite(self.focus).all():
            raise DataError(f'{self.name}: focus must be finite numbers, got {self.focus}')
        if self.unit == 'metres' and not (self.focus > 0.0).all():
            raise DataError(f'{self.name}: focus in metres must be positive, got {self.focus}')
        if self.truth is not None and self.truth.shape != self.images.shape[1:3]:
            raise DataError(
                f'{self.name}: truth of size {self.truth.shape} for images of size '
                f'{self.images.shape[1:3]}'
            )


Sample = RgbdSample | StackSample


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequence of samples, loaded on access.

    :param kind: layout on disk, such as ``nyu``.
    :param description: one line for reports: contents, split, exclusions.
    :param load: function that returns the sample of an index.
    """

    name: str
    kind: str
    description: str
    length: int
    load: Callable[[int], Sample]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.load(index)


def choice_option(options: Options, name: str, default: str, choices: Sequence[str]) -> str:
    """Return the value of an option with fixed choices; DataError for another one."""
    value = options.get(name, default)
    if value not in choices:
        raise DataError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
    return value


def count_option(options: Options, name: str, default: int) -> int:
    """Return the value of an option that is a whole number above 0, or raise DataError."""
    text = options.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise DataError(f"{name} must be a whole number above 0, got '{text}'")
    return int(text)


def number_option(options: Options, name: str, default: float) -> float:
    """Return the value of an option that is a number, or raise DataError."""
    value = parse_float(options.get(name, str(default)))
    if value is None:
        raise DataError(f"{name} must be a number, got '{options[name]}'")
    return value


def integers_option(options: Options, name: str, counts: Sequence[int]) -> list[int]:
    """Return the value of an option that is a list of whole numbers, separated by ``:``.

    :param counts: allowed lengths of the list.
    :raises DataError: for another value or length.
    """
    parts = options[name].split(':')
    if len(parts) not in counts or not all(part.isdigit() for part in parts):
        lengths = ' or '.join(map(str, counts))
        raise DataError(
            f"{name} must be {lengths} whole numbers separated by ':', got '{options[name]}'"
        )
    return [int(part) for part in parts]
