# SPDX-License-Identifier: Apache-2.0
"""What a data set consists of: colour with depth, or focal stacks, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.exceptions import DataError

# Units of the focus of a stack, and what its truth is in. Sharpness is a function of inverse
# depth, so every unit but metres must be affine in dioptres.
UNITS = {
    'metres': 'focus in metres, truth in metres',
    'dioptres': 'focus in 1/m, truth in metres',
    'disparity': 'focus and truth in disparity, 0 at infinity',
    'shift': 'focus and truth in pixels of refocusing shift, zero anywhere',
    'slices': 'focus and truth in plane numbers',
}
METRIC_UNITS = ('metres', 'dioptres')


@dataclass(frozen=True, eq=False)
class RgbdSample:
    """A sharp colour image and its depth.

    :param colour: (H, W, 3) uint8 sRGB.
    :param depth: (H, W) float32 metres along the optical axis, NaN where unknown.
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
            raise DataError(f'{self.name}: no pixel has a depth')


@dataclass(frozen=True, eq=False)
class StackSample:
    """A focal stack as it was taken, with its truth where there is one.

    :param images: (N, H, W, 3) uint8 sRGB, aligned.
    :param focus: (N,) float64 in ``unit``, in the order of the images.
    :param unit: one of :data:`UNITS`.
    :param truth: (H, W) float32 in metres for metric units, otherwise in the unit of focus; NaN
        where unknown or not to be counted. None: there is no truth at all.
    :param limit: truth and estimates beyond it count as this value, as FoD500 is evaluated.
    :param plane: rows and columns of a region that is flat in space, where inverse depth must be
        linear in pixel coordinates.
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
    """Samples that are loaded when they are asked for.

    :param kind: the layout, such as ``nyu``.
    :param about: one line for the report: what it is, which split, what was left out.
    """

    name: str
    kind: str
    about: str
    length: int
    load: Callable[[int], Sample]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.load(index)
