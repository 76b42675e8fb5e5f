# SPDX-License-Identifier: Apache-2.0
"""Field curvature from sweeps over flat targets, square to the camera or oblique.

The inverse depth of a plane is affine in the pixels of a pinhole camera, and a lens whose field is
bowed by c2 r^2 + c4 r^4 (:mod:`dualfocus_ros.camera.field_curvature`) shows a pixel sharp at

    q = a + b x + c y - c2 r^2 - c4 r^4,

with a, b and c of each target and common c2, c4. The principal point hardly matters: with another
one c2 r^2 only differs by an affine function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_ros.calibration.focus_scale import MIN_SWEEP, find_sharpness_peak
from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear
from dualfocus_ros.calibration.target_images import FocusImage, Region, block_sharpness
from dualfocus_ros.camera.field_curvature import field_curvature_offset, half_diagonal
from dualfocus_ros.exceptions import CalibrationError

MIN_BLOCKS = 40
MIN_REACH = 0.4  # half diagonals, between the innermost and the outermost block
# c4 is taken if it is that many standard errors from 0, and if no corner is extrapolated by it.
SIGNIFICANT = 3.0
QUARTIC_REACH = 0.7
_MIN_CONTRAST = 2.0  # of a block at its sharpest over that at its most blurred
_BLOCKS_ACROSS, _MIN_BLOCK = 25, 12  # on the diagonal of an image; least size in pixels
_CELL = 0.25  # half diagonals; errors farther apart are taken as independent
_MAX_OUTLIERS = 0.25


@dataclass(frozen=True, eq=False)
class TargetFocus:
    """The focus at which the blocks of one target are sharp.

    :param x: (M,) of each block from the principal point, to the right, in half diagonals.
    :param y: (M,) downwards.
    :param dioptres: (M,) focus at which it is sharp.
    """

    x: np.ndarray
    y: np.ndarray
    dioptres: np.ndarray

    @property
    def squared_radius(self) -> np.ndarray:
        """(M,) r^2."""
        return self.x**2 + self.y**2


@dataclass(frozen=True, eq=False)
class FieldCurvatureFit:
    """The result.

    :param coefficients: c2, c4 in 1/m; c4 is 0 where the targets do not tell it.
    :param errors: their standard errors; NaN for a c4 that was not taken.
    :param targets: what was fitted.
    :param before: fit by planes alone.
    :param after: with the curvature; residuals of all targets, one after the other.
    """

    coefficients: tuple[float, float]
    errors: tuple[float, float]
    targets: tuple[TargetFocus, ...]
    before: LinearFit
    after: LinearFit

    @property
    def reach(self) -> float:
        """The largest r of a block."""
        return float(np.sqrt(max(t.squared_radius.max() for t in self.targets)))


def measure_target(
    settings: Sequence[FocusImage],
    region: Region | None = None,
    centre: tuple[float, float] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> TargetFocus:
    """Find the focus at which the blocks of a region are sharp.

    :param settings: an image of each focus setting.
    :param region: that the target fills; by default the whole image.
    :param centre: principal point x, y in pixels; by default the middle of the image.
    :param progress: called once per image.
    :raises CalibrationError: for too little texture, or a target out of the swept range.
    """
    if len(settings) < MIN_SWEEP:
        raise CalibrationError(
            f'{len(settings)} focus settings cannot show where each part of the image is sharp: '
            f'record at least {MIN_SWEEP}, better 10 to 30'
        )
    height, width = settings[0].pixels.shape[:2]
    region = region or Region(0, 0, width, height)
    unit = half_diagonal(height, width)
    size = max(round(2.0 * unit / _BLOCKS_ACROSS), _MIN_BLOCK)
    measures = []
    for image in settings:
        measures.append(block_sharpness(image, region, size))
        progress()
    volume = np.stack(measures)
    dioptres = [image.dioptres for image in settings]
    cx, cy = centre or (0.5 * (width - 1), 0.5 * (height - 1))
    rows, columns = np.indices(volume.shape[1:])
    x = (region.x + (columns + 0.5) * size - 0.5 - cx) / unit
    y = (region.y + (rows + 0.5) * size - 0.5 - cy) / unit
    _check_reach(np.hypot(x, y))
    textured = volume.max(axis=0) > _MIN_CONTRAST * volume.min(axis=0)
    found, beyond = [], 0
    for row, column in np.argwhere(textured):
        try:
            peak = find_sharpness_peak(dioptres, volume[:, row, column].tolist())
        except CalibrationError:
            beyond += volume[:, row, column].argmax() in (0, len(volume) - 1)
            continue
        found.append((x[row, column], y[row, column], peak.position))
    if beyond > 0.5 * textured.sum():
        raise CalibrationError(
            'most of the target is sharpest at an end of the sweep: sweep farther to both sides, '
            'or give the part of the image that is sharp within it as --region'
        )
    if len(found) < MIN_BLOCKS:
        raise CalibrationError(
            f'only {len(found)} of {textured.size} blocks of {size} pixels have texture that gets '
            f'sharp and blurred again within the sweep, {MIN_BLOCKS} are needed: use a target '
            'with fine texture, more light, or a wider sweep'
        )
    return TargetFocus(*np.array(found).T)


def fit_field_curvature(targets: Sequence[TargetFocus]) -> FieldCurvatureFit:
    """Fit c2, and c4 where the targets tell it, with a plane for each target.

    :raises CalibrationError: for too small a part of the image, or targets that are not flat.
    """
    squared = np.concatenate([target.squared_radius for target in targets])
    values = np.concatenate([target.dioptres for target in targets])
    radius = np.sqrt(squared)
    _check_reach(radius)
    planes = _plane_columns(targets)
    quadratic = np.column_stack((planes, -field_curvature_offset(squared, (1.0, 0.0))))
    quartic = np.column_stack((quadratic, -field_curvature_offset(squared, (0.0, 1.0))))
    fit = fit_linear(quartic, values)
    (c2, c4), errors = fit.coefficients[-2:], fit.errors[-2:] * _error_inflation(targets, fit)
    if radius.max() < QUARTIC_REACH or abs(c4) < SIGNIFICANT * errors[1]:
        fit = fit_linear(quadratic, values)
        c2, c4 = fit.coefficients[-1], 0.0
        errors = np.array([fit.errors[-1] * _error_inflation(targets, fit), np.nan])
    if np.mean(fit.outliers) > _MAX_OUTLIERS:
        raise CalibrationError(
            f'{np.mean(fit.outliers):.0%} of the blocks do not lie on a plane, even a bowed one: '
            'the region must show one flat target, which stands still'
        )
    return FieldCurvatureFit(
        (float(c2), float(c4)),
        (float(errors[0]), float(errors[1])),
        tuple(targets),
        fit_linear(planes, values),
        fit,
    )


def _check_reach(radius: np.ndarray) -> None:
    """Refuse blocks that are all about as far from the principal point."""
    low, high = float(radius.min(initial=np.inf)), float(radius.max(initial=0.0))
    if high - low < MIN_REACH:
        raise CalibrationError(
            f'the target covers distances from {low:.2f} to {high:.2f} half diagonals from the '
            f'principal point, a range of at least {MIN_REACH} is needed: let it fill the image '
            'from the middle to a corner'
        )


def _error_inflation(targets: Sequence[TargetFocus], fit: LinearFit) -> float:
    """Return how many times the standard errors of independent blocks the errors are.

    Neighbouring blocks err alike: between the same two settings of the focus, on the same stretch
    of paper. That shows in the averages over cells of many blocks.
    """
    cells = [
        (number, *place)
        for number, target in enumerate(targets)
        for place in np.floor(np.stack((target.x, target.y), axis=1) / _CELL).astype(int).tolist()
    ]
    _, index = np.unique(cells, axis=0, return_inverse=True)
    residuals = fit.weights * fit.residuals
    sums = np.bincount(index.ravel(), residuals)
    expected = float(np.mean(residuals**2))
    if expected == 0.0:
        return 1.0
    return max(float(np.mean(sums**2 / np.bincount(index.ravel()))) / expected, 1.0) ** 0.5


def _plane_columns(targets: Sequence[TargetFocus]) -> np.ndarray:
    """Return the columns 1, x, y of each target, 0 for the blocks of the others."""
    sizes = [len(target.x) for target in targets]
    planes = np.zeros((sum(sizes), 3 * len(targets)))
    first = 0
    for number, (target, size) in enumerate(zip(targets, sizes, strict=True)):
        columns = np.stack([np.ones(size), target.x, target.y], axis=1)
        planes[first : first + size, 3 * number : 3 * number + 3] = columns
        first += size
    return planes
