# SPDX-License-Identifier: Apache-2.0
"""Metrics of estimates: errors, uncertainty, and errors by group of pixels.

Image metrics are means over the pixels of an image; tables average them over images. Tables by
group of pixels (:class:`PixelGroups`) pool the pixels of all images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from dualfocus_ros.evaluation.classical import focus_volume
from dualfocus_ros.evaluation.method_interface import Case, Estimate
from dualfocus_ros.evaluation.metrics import bumpiness, depth_errors

# Largest step of p in the wrong direction that does not count as a second peak.
UNIMODAL_TOLERANCE = 1e-4
# Of the calibration curve.
NOMINAL_SHARES = np.linspace(0.05, 0.95, 19)
DEPTH_EDGES = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, np.inf)
TEXTURE_LABELS = ('lowest quarter', 'second', 'third', 'highest quarter')
# Relative to the plane in focus closest to the truth; shifts and slices have no known direction.
SIDE_LABELS = (
    'nearer than the closest plane',
    'farther than the closest plane',
    'outside the sweep',
)
UNKNOWN_SIDE_LABELS = ('above the closest plane', 'below the closest plane', 'outside the sweep')
DEPTH_ERRORS = [
    'coverage',
    'mse',
    'rmse',
    'log_rmse',
    'abs_rel',
    'sq_rel',
    'delta1',
    'delta2',
    'delta3',
]
DISTANCE_EDGES = (0.0, 0.125, 0.25, 0.375, 0.5, np.inf)


@dataclass(eq=False)
class PixelGroups:
    """Sums over the pixels of each group.

    :param sums: (groups, 5): count, |error|, |error| / truth, |error| and sigma in positions.
    """

    labels: tuple[str, ...]
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((len(self.labels), 5))

    def add(self, index: np.ndarray, columns: tuple[np.ndarray, ...]) -> None:
        """Add pixels.

        :param index: (M,) group of each pixel; pixels with a negative index are ignored.
        :param columns: (M,) values of each sum after the count.
        """
        valid, count = index >= 0, len(self.labels)
        for column, values in enumerate((np.ones(index.shape), *columns)):
            self.sums[:, column] += np.bincount(index[valid], values[valid], count)

    def rows(self) -> list[dict[str, float | str]]:
        """Return the label, the share of the pixels and the means of each group."""
        total = max(float(self.sums[:, 0].sum()), 1.0)
        names = ('mae', 'abs_rel', 'mae_position', 'mean_sigma')
        out: list[dict[str, float | str]] = []
        for label, sums in zip(self.labels, self.sums):
            means = sums[1:] / sums[0] if sums[0] else np.full(4, np.nan)
            share = float(sums[0] / total)
            out.append({'pixels': label, 'share': share, **dict(zip(names, means.tolist()))})
        return out


@dataclass(eq=False)
class MetricAccumulator:
    """Metrics of one method on one data set.

    :param images: metrics of each image.
    :param groups: errors by group of pixels, by name of the grouping.
    :param within_counts: errors within the sigma interval of each of :data:`NOMINAL_SHARES`.
    :param pixel_count: pixels with sigma and ground truth.
    """

    images: list[dict[str, float]] = field(default_factory=list)
    groups: dict[str, PixelGroups] = field(default_factory=dict)
    within_counts: np.ndarray = field(default_factory=lambda: np.zeros(len(NOMINAL_SHARES)))
    pixel_count: float = 0.0

    def means(self) -> dict[str, float]:
        """Return the mean of each image metric over the images that have it.

        ``rmse`` is a mean of roots; ``root_mse`` is the root of the mean square.
        """
        values: dict[str, list[float]] = {}
        for image in self.images:
            for name, value in image.items():
                values.setdefault(name, []).append(value)
        means = {name: float(np.mean(found)) for name, found in values.items()}
        if 'mse' in means:
            means['root_mse'] = means['mse'] ** 0.5
        return means

    def calibration(self) -> list[tuple[float, float]]:
        """Return (nominal share, actual share of errors within it); empty without sigma."""
        if not self.pixel_count:
            return []
        actual = self.within_counts / self.pixel_count
        return list(zip(NOMINAL_SHARES.tolist(), actual.tolist()))


def score_estimate(
    case: Case, estimate: Estimate, texture: np.ndarray, accumulator: MetricAccumulator
) -> dict[str, float]:
    """Add the metrics of an estimate to an accumulator; return those of this image.

    :param texture: (H, W) result of :func:`texture_strength`.
    """
    truth_position = case.truth_position
    known = np.isfinite(truth_position) & np.isfinite(estimate.position)
    if case.has_ratios:
        known &= case.truth > 0.0
    image: dict[str, float] = {}
    if known.any():
        value = case.value(estimate.position)
        error = np.abs(value - case.truth)[known]
        position_error = np.abs(estimate.position - truth_position)[known]
        image |= _error_metrics(case, value, error, position_error)
        relative = error / case.truth[known] if case.has_ratios else np.full(error.shape, np.nan)
        sigma = np.full(error.shape, np.nan)
        if estimate.sigma is not None:
            sigma = estimate.sigma[known].astype(np.float64)
            low, high = case.focus.min(), case.focus.max()
            inside = (truth_position[known] >= low) & (truth_position[known] <= high)
            image |= _uncertainty_metrics(position_error, sigma, inside, accumulator)
        columns = (error, relative, position_error, sigma)
        for name, labels, index in _pixel_groups(case, truth_position, texture, known):
            accumulator.groups.setdefault(name, PixelGroups(labels)).add(index, columns)
    if estimate.sigma is not None:
        image['mean_sigma'] = float(np.mean(estimate.sigma))
    if estimate.probability is not None:
        order = np.argsort(case.focus, kind='stable')
        image['unimodal'] = float(unimodal_mask(estimate.probability[order]).mean())
    if case.plane is not None:
        image |= plane_fit_metrics(case, estimate, texture)
    accumulator.images.append(image)
    return image


def _error_metrics(
    case: Case, value: np.ndarray, error: np.ndarray, position_error: np.ndarray
) -> dict[str, float]:
    out = {'mae': float(error.mean()), 'median': float(np.median(error))}
    if case.has_ratios:
        found = depth_errors(value, case.truth)
        out |= {name: getattr(found, name) for name in DEPTH_ERRORS}
        maps = np.nan_to_num(value), np.nan_to_num(case.truth)
        out['bump'], out['bump_zero'] = bumpiness(*maps), bumpiness(*maps, 'zero')
    else:
        known = np.isfinite(case.truth)
        mse = float(np.mean(error**2))
        out |= {'coverage': error.size / known.sum(), 'mse': mse, 'rmse': mse**0.5}
    if case.metric:
        out['mae_position'] = float(position_error.mean())
        out['rmse_position'] = float(np.sqrt(np.mean(position_error**2)))
    return out


def _uncertainty_metrics(
    error: np.ndarray, sigma: np.ndarray, inside: np.ndarray, accumulator: MetricAccumulator
) -> dict[str, float]:
    ratio = error / np.maximum(sigma, 1e-12)
    normal = NormalDist()
    limits = np.array([normal.inv_cdf(0.5 + 0.5 * float(p)) for p in NOMINAL_SHARES])
    accumulator.within_counts += np.searchsorted(np.sort(ratio), limits, side='right')
    accumulator.pixel_count += ratio.size
    out = {
        'within_1_sigma': float((ratio < 1.0).mean()),
        'within_2_sigma': float((ratio < 2.0).mean()),
        'ause': ause(error, sigma),
    }
    if inside.any():
        # An expectation over the planes cannot reach positions beyond them.
        out['within_1_sigma_inside'] = float((ratio < 1.0)[inside].mean())
    return out


def ause(error: np.ndarray, sigma: np.ndarray, steps: int = 20) -> float:
    """Return the area under the sparsification error, as a share of the mean error.

    The sparsification curve is the mean |error| after removing the most uncertain 0 to 95 % of
    the pixels. The area is taken between the curves by sigma and by the error itself: 0 is a
    perfect ordering.

    :param error: (M,) absolute errors.
    :param sigma: (M,) uncertainties.
    """
    mean = float(error.mean())
    if mean == 0.0:
        return 0.0
    counts = np.maximum(np.round(error.size * (1.0 - np.arange(steps) / steps)).astype(int), 1)

    def curve(key: np.ndarray) -> np.ndarray:
        totals = np.cumsum(error[np.argsort(key, kind='stable')])
        return np.asarray(totals[counts - 1] / counts)

    return float(np.mean(curve(sigma) - curve(error)) / mean)


def unimodal_mask(probability: np.ndarray, tolerance: float = UNIMODAL_TOLERANCE) -> np.ndarray:
    """Return (H, W) bool, True where p rises to its maximum and falls after it.

    :param probability: (N, H, W), planes in the order of their focus.
    """
    steps = np.diff(probability, axis=0)
    peak = probability.argmax(axis=0)
    rising = np.arange(len(steps))[:, None, None] < peak
    return np.asarray((np.where(rising, -steps, steps) <= tolerance).all(axis=0))


def texture_strength(case: Case) -> np.ndarray:
    """Return the largest sum-modified-Laplacian over the planes, (H, W)."""
    images = case.images
    if images.dtype != np.uint8:
        images = images * np.float32(255.0)
    return np.asarray(focus_volume(images, 'sml').max(axis=0))


def _pixel_groups(
    case: Case, truth_position: np.ndarray, texture: np.ndarray, known: np.ndarray
) -> list[tuple[str, tuple[str, ...], np.ndarray]]:
    """Return name, labels and index of each known pixel of the groupings."""
    truth = truth_position[known]
    strength = texture[known]
    quartiles = np.quantile(strength, (0.25, 0.5, 0.75))
    focus = np.sort(np.unique(case.focus))
    closest = np.abs(truth[:, None] - focus).argmin(axis=1)
    offset = truth - focus[closest]
    outside = (truth < focus[0]) | (truth > focus[-1])
    side = np.where(outside, 2, np.where(offset > 0.0, 0, 1))
    spacing = float(focus[-1] - focus[0]) / (len(focus) - 1)
    distance = np.digitize(np.abs(offset) / spacing, DISTANCE_EDGES) - 1
    kinds = [
        ('texture', TEXTURE_LABELS, np.digitize(strength, quartiles)),
        ('side', SIDE_LABELS if case.has_ratios else UNKNOWN_SIDE_LABELS, side),
        ('distance to the closest plane', _range_labels(DISTANCE_EDGES, ' spacings'), distance),
    ]
    if case.metric:
        edges = DEPTH_EDGES
        kinds.append(
            ('depth', _range_labels(edges, ' m'), np.digitize(case.truth[known], edges) - 1)
        )
    else:
        ends = np.linspace(focus[0], focus[-1], 9)
        labels = tuple(f'{p:.3g} to {q:.3g} {case.unit}' for p, q in pairwise(ends))
        kinds.append(('depth', labels, np.where(outside, -1, np.digitize(truth, ends[1:-1]))))
    return kinds


def _range_labels(edges: tuple[float, ...], unit: str) -> tuple[str, ...]:
    return tuple(
        f'{low:g} to {high:g}{unit}' if np.isfinite(high) else f'over {low:g}{unit}'
        for low, high in pairwise(edges)
    )


def plane_fit_metrics(case: Case, estimate: Estimate, texture: np.ndarray) -> dict[str, float]:
    """Fit position = a + b u + c v over the case's flat region.

    :returns: RMS of the residual, rise over the region, and the median sigma in the region,
        elsewhere, and in the least textured quarter of elsewhere.
    """
    assert case.plane is not None
    rows, columns = case.plane
    position = estimate.position[rows, columns].astype(np.float64)
    v, u = np.mgrid[0 : position.shape[0], 0 : position.shape[1]]
    good = np.isfinite(position)
    basis = np.stack([np.ones(good.sum()), u[good], v[good]], axis=1)
    fit = np.linalg.lstsq(basis, position[good], rcond=None)[0]
    residual = position[good] - basis @ fit
    out = {'plane_rms': float(np.sqrt(np.mean(residual**2)))}
    out['plane_slope'] = float(fit[2] * position.shape[0])
    if estimate.sigma is not None:
        inside = float(np.median(estimate.sigma[rows, columns]))
        rest = np.ones(estimate.sigma.shape, dtype=bool)
        rest[rows, columns] = False
        out['sigma_in_plane'] = inside
        out['sigma_elsewhere'] = float(np.median(estimate.sigma[rest]))
        blank = rest & (texture <= np.quantile(texture[rest], 0.25))
        out['sigma_blank'] = float(np.median(estimate.sigma[blank]))
    return out
