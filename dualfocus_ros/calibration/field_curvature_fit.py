# SPDX-License-Identifier: Apache-2.0
"""Calibration of field curvature from sweeps over flat targets, frontal or oblique.

The inverse depth of a plane is affine in the pixels of a pinhole camera. With field curvature
c2 r^2 + c4 r^4 (:mod:`dualfocus_ros.camera.field_curvature`) a pixel is sharp at

    q = a + b x + c y - c2 r^2 - c4 r^4,

with a, b and c of each target and common c2, c4. The principal point hardly matters: it changes
c2 r^2 by an affine function only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from scipy.linalg import block_diag

from dualfocus_ros.calibration import calibration_plots as plots
from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.calibration.robust_fit import LinearFit, fit_linear
from dualfocus_ros.calibration.target_images import (
    MIN_SWEEP,
    FocusImage,
    Region,
    block_sharpness,
    find_sharpness_peak,
)
from dualfocus_ros.camera.field_curvature import field_curvature_offset, half_diagonal
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.io.figures import figure_to_array

MIN_BLOCKS = 40
MIN_REACH = 0.4  # half diagonals, between the innermost and the outermost block
# Use c4 if it is that many standard errors from 0 and does not extrapolate to the corners.
SIGNIFICANT = 3.0
QUARTIC_REACH = 0.7
_MIN_CONTRAST = 2.0  # largest sharpness of a block over the smallest
_BLOCKS_ACROSS, _MIN_BLOCK = 25, 12  # along the image diagonal; pixels
_CELL = 0.25  # half diagonals; errors at larger distances count as independent
_MAX_OUTLIERS = 0.25


@dataclass(frozen=True, eq=False)
class TargetFocus:
    """Focus at which the blocks of one target are sharp.

    :param x: (M,) of each block from the principal point, right in half diagonals; ``y`` down.
    :param dioptres: (M,) focus of largest sharpness.
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
    """Fit of the field curvature.

    :param coefficients: c2, c4 in 1/m; c4 is 0 if not significant.
    :param errors: their standard errors; NaN for an unused c4.
    :param before: fit of planes alone.
    :param after: fit with curvature; residuals of all targets, concatenated.
    """

    coefficients: tuple[float, float]
    errors: tuple[float, float]
    targets: tuple[TargetFocus, ...]
    before: LinearFit
    after: LinearFit

    @property
    def reach(self) -> float:
        """Largest r of a block."""
        return float(np.sqrt(max(t.squared_radius.max() for t in self.targets)))


def measure_target(
    settings: Sequence[FocusImage],
    region: Region | None = None,
    centre: tuple[float, float] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> TargetFocus:
    """Find the focus at which the blocks of a region are sharp.

    :param settings: an image of each focus setting.
    :param region: part of the image with the target; default the whole image.
    :param centre: principal point x, y in pixels; default the image centre.
    :raises CalibrationError: for too little texture, or a target out of the swept range.
    """
    if len(settings) < MIN_SWEEP:
        raise CalibrationError(
            f'{len(settings)} focus settings are too few to find where each block is sharp: '
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
            'or select a region that is sharp within the sweep'
        )
    if len(found) < MIN_BLOCKS:
        raise CalibrationError(
            f'only {len(found)} of {textured.size} blocks of {size} pixels have texture with a '
            f'sharpness peak within the sweep, {MIN_BLOCKS} are needed: use a target '
            'with fine texture, more light, or a wider sweep'
        )
    return TargetFocus(*np.array(found).T)


def fit_field_curvature(targets: Sequence[TargetFocus]) -> FieldCurvatureFit:
    """Fit c2, a significant c4, and a plane for each target.

    :raises CalibrationError: for too small a range of r, or targets that are not flat.
    """
    squared = np.concatenate([target.squared_radius for target in targets])
    values = np.concatenate([target.dioptres for target in targets])
    radius = np.sqrt(squared)
    _check_reach(radius)
    # Columns 1, x, y of each target, 0 for the blocks of other targets.
    planes = block_diag(*(np.stack([np.ones_like(t.x), t.x, t.y], axis=1) for t in targets))
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
            f'{np.mean(fit.outliers):.0%} of the blocks lie on no plane, even with field '
            'curvature: the region must show one flat target at rest'
        )
    return FieldCurvatureFit(
        (float(c2), float(c4)),
        (float(errors[0]), float(errors[1])),
        tuple(targets),
        fit_linear(planes, values),
        fit,
    )


def _check_reach(radius: np.ndarray) -> None:
    """Check that the blocks span a sufficient range of distances from the principal point."""
    low, high = float(radius.min(initial=np.inf)), float(radius.max(initial=0.0))
    if high - low < MIN_REACH:
        raise CalibrationError(
            f'the target covers distances from {low:.2f} to {high:.2f} half diagonals from the '
            f'principal point, a range of at least {MIN_REACH} is needed: let it fill the image '
            'from the middle to a corner'
        )


def _error_inflation(targets: Sequence[TargetFocus], fit: LinearFit) -> float:
    """Return the factor on standard errors for the correlation between neighbouring blocks."""
    # Shared focus settings and target texture show in the means over cells of many blocks.
    cells = [
        (number, *place)
        for number, target in enumerate(targets)
        for place in np.floor(np.stack((target.x, target.y), axis=1) / _CELL).astype(int).tolist()
    ]
    index = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    residuals = fit.weights * fit.residuals
    expected = float(np.mean(residuals**2))
    if expected == 0.0:
        return 1.0
    found = float(np.mean(np.bincount(index, residuals) ** 2 / np.bincount(index)))
    return max(found / expected, 1.0) ** 0.5


def field_curvature_result(result: FieldCurvatureFit) -> CalibrationResult:
    """Return node parameters, summary and figure of a fit."""
    summary = {
        'coefficients': list(result.coefficients),
        'errors': list(result.errors),
        'before_dioptres': result.before.rms,
        'after_dioptres': result.after.rms,
        'reach': result.reach,
        'targets': [
            {
                'blocks': len(target.x),
                'nearest_dioptres': float(target.dioptres.max()),
                'farthest_dioptres': float(target.dioptres.min()),
            }
            for target in result.targets
        ],
    }
    parameters = {'lens.field_curvature': list(result.coefficients)}
    (c2, c4), (e2, e4) = result.coefficients, result.errors
    fourth = f'c4 = {c4:+.4f} (standard error {e4:.4f})'
    if math.isnan(e4):
        fourth = 'c4 = 0 (not significant)'
    blocks, targets = len(result.after.residuals), len(result.targets)
    lines = [
        f'field: c2 = {c2:+.4f} (standard error {e2:.4f}), {fourth}, in 1/m, from {blocks} blocks '
        f'of {targets} target{"s" * (targets != 1)}',
        f'check: residual to a plane {result.before.rms:.4f} dioptres (RMS) before and '
        f'{result.after.rms:.4f} after correction; measured up to r = {result.reach:.2f}',
    ]
    return CalibrationResult(parameters, summary, lines, _figure(result))


def _figure(result: FieldCurvatureFit) -> np.ndarray:
    """Draw the curvature over the radius, its residuals, and maps of both."""
    figure = Figure(figsize=(10, 4.5), dpi=plots.DPI, layout='constrained')
    figure.suptitle('Field curvature')
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    axes = figure.add_subplot(grid[:, 0])
    x, y = (np.concatenate([getattr(t, name) for t in result.targets]) for name in 'xy')
    r = np.hypot(x, y)
    after, used = result.after.residuals, ~result.after.outliers
    curved = after - field_curvature_offset(x**2 + y**2, result.coefficients)
    axes.plot(r[used], curved[used], '.', color=plots.MEASURED, label='measured')
    axes.plot(r[used], after[used], '.', color=plots.OTHER, label='corrected')
    if not used.all():
        axes.plot(r[~used], curved[~used], 'x', color=plots.OUT, label='outlier')
    fine = np.linspace(0.0, result.reach, 200)
    label = '−({:+.3f} r² {:+.3f} r⁴)'.format(*result.coefficients)
    model = -field_curvature_offset(fine**2, result.coefficients)
    axes.plot(fine, model, color=plots.MODEL, label=label)
    axes.set(xlabel='r, half diagonals from the principal point')
    axes.set(ylabel='focus relative to the plane, 1/m')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    largest = max(float(np.abs(result.before.residuals[used]).max()), 1e-6)
    style: dict[str, Any] = {'s': 14, 'cmap': 'coolwarm', 'vmin': -largest, 'vmax': largest}
    for row, fit, name in (0, result.before, 'as measured'), (1, result.after, 'corrected'):
        place = figure.add_subplot(grid[row, 1])
        shown = place.scatter(x, y, c=fit.residuals, **style)
        title = f'{name}: {fit.rms:.3f} 1/m (RMS) from a plane'
        place.set(title=title, aspect='equal', xticks=(), yticks=())
        place.invert_yaxis()
        figure.colorbar(shown, ax=place, label='1/m')
    return figure_to_array(figure)
