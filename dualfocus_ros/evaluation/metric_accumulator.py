# SPDX-License-Identifier: Apache-2.0
"""Metrics of estimates: errors and uncertainty by image, and errors by group of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.classical import focus_volume
from dualfocus_ros.evaluation.method_interface import Case, Estimate
from dualfocus_ros.evaluation.metrics import bumpiness, depth_errors

# Nominal shares of the calibration curve, and the errors in sigma that include them.
NOMINAL_SHARES = np.linspace(0.05, 0.95, 19)
_LIMITS = [NormalDist().inv_cdf(0.5 + 0.5 * float(p)) for p in NOMINAL_SHARES]
DEPTH_EDGES = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, np.inf)
TEXTURE_LABELS = ('lowest quarter', 'second', 'third', 'highest quarter')
# Relative to the plane in focus closest to the truth; shifts and slices have no known direction.
SIDE_LABELS = (
    'nearer than the closest plane',
    'farther than the closest plane',
    'outside the sweep',
)
UNKNOWN_SIDE_LABELS = ('above the closest plane', 'below the closest plane', 'outside the sweep')
DISTANCE_EDGES = (0.0, 0.125, 0.25, 0.375, 0.5, np.inf)


@dataclass(eq=False)
class PixelGroups:
    """Sums over the pixels of each group in all images.

    :param sums: (5, groups): count, |error|, |error| / truth, |error| and sigma in positions.
    """

    labels: tuple[str, ...]
    sums: np.ndarray | float = 0.0

    def add(self, index: np.ndarray, columns: Sequence[np.ndarray]) -> None:
        """Add pixels.

        :param index: (M,) group of each pixel; pixels with a negative index are ignored.
        :param columns: (M,) values of each sum after the count.
        """
        valid, count = index >= 0, len(self.labels)
        values = (np.ones(index.shape), *columns)
        self.sums += np.array([np.bincount(index[valid], v[valid], count) for v in values])

    def rows(self) -> list[dict[str, float | str]]:
        """Return the label, the share of the pixels and the means of each group."""
        count, *sums = np.asarray(self.sums)
        names = ('share', 'mae', 'abs_rel', 'mae_position', 'mean_sigma')
        with np.errstate(invalid='ignore'):
            values = [count / max(count.sum(), 1.0), *(total / count for total in sums)]
        columns = zip(*(column.tolist() for column in values))
        return [{'pixels': n, **dict(zip(names, row))} for n, row in zip(self.labels, columns)]


@dataclass(eq=False)
class MetricAccumulator:
    """Metrics of one method on one data set, by image, and errors by group of pixels.

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
        names = dict.fromkeys(name for image in self.images for name in image)
        means = {n: float(np.mean([i[n] for i in self.images if n in i])) for n in names}
        if 'mse' in means:
            means['root_mse'] = means['mse'] ** 0.5
        return means

    def calibration(self) -> list[tuple[float, float]]:
        """Return (nominal share, actual share of errors within it); empty without sigma."""
        actual = self.within_counts / self.pixel_count if self.pixel_count else np.empty(0)
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
            truth = truth_position[known]
            inside = (truth >= case.focus.min()) & (truth <= case.focus.max())
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
        out |= asdict(depth_errors(value, case.truth))
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
    accumulator.within_counts += np.searchsorted(np.sort(ratio), _LIMITS, side='right')
    accumulator.pixel_count += ratio.size
    out = {f'within_{n}_sigma': float((ratio < n).mean()) for n in (1, 2)}
    out['ause'] = ause(error, sigma)
    if inside.any():
        # An expectation over the planes cannot reach positions beyond them.
        out['within_1_sigma_inside'] = float((ratio < 1.0)[inside].mean())
    return out


def ause(error: np.ndarray, sigma: np.ndarray, steps: int = 20) -> float:
    """Return the area under the sparsification error, as a share of the mean error.

    The sparsification curve is the mean |error| after removing the most uncertain 0 to 95 % of
    the pixels. The area is taken between the curves by sigma and by the error itself, both (M,):
    0 is a perfect ordering.
    """
    mean = float(error.mean())
    if mean == 0.0:
        return 0.0
    counts = np.maximum(np.round(error.size * (1.0 - np.arange(steps) / steps)).astype(int), 1)

    def curve(key: np.ndarray) -> np.ndarray:
        totals = np.cumsum(error[np.argsort(key, kind='stable')])
        return np.asarray(totals[counts - 1] / counts)

    return float(np.mean(curve(sigma) - curve(error)) / mean)


def unimodal_mask(probability: np.ndarray, tolerance: float = 1e-4) -> np.ndarray:
    """Return (H, W) bool, True where p rises to its maximum and falls after it.

    :param probability: (N, H, W), planes in the order of their focus.
    :param tolerance: largest step of p in the wrong direction that does not count.
    """
    steps = np.diff(probability, axis=0)
    peak = probability.argmax(axis=0)
    rising = np.arange(len(steps))[:, None, None] < peak
    return np.asarray((np.where(rising, -steps, steps) <= tolerance).all(axis=0))


def texture_strength(case: Case) -> np.ndarray:
    """Return the largest sum-modified-Laplacian over the planes, (H, W)."""
    return np.asarray(focus_volume(case.images, 'sml').max(axis=0))


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
        labels, index = (
            _range_labels(DEPTH_EDGES, ' m'),
            np.digitize(case.truth[known], DEPTH_EDGES) - 1,
        )
    else:
        ends = np.linspace(focus[0], focus[-1], 9)
        labels = tuple(f'{p:.3g} to {q:.3g} {case.unit}' for p, q in pairwise(ends))
        index = np.where(outside, -1, np.digitize(truth, ends[1:-1]))
    return [*kinds, ('depth', labels, index)]


def _range_labels(edges: tuple[float, ...], unit: str) -> tuple[str, ...]:
    return tuple(
        f'{low:g} to {high:g}{unit}' if np.isfinite(high) else f'over {low:g}{unit}'
        for low, high in pairwise(edges)
    )


def plane_fit_metrics(case: Case, estimate: Estimate, texture: np.ndarray) -> dict[str, float]:
    """Fit position = a + b u + c v over the case's flat region.

    :returns: RMS residual, rise, and the median sigma in the region, elsewhere, and in the least
        textured quarter of elsewhere.
    """
    assert case.plane is not None
    rows, columns = case.plane
    position = estimate.position[rows, columns].astype(np.float64)
    v, u = np.mgrid[0 : position.shape[0], 0 : position.shape[1]]
    good = np.isfinite(position)
    basis = np.stack([np.ones(good.sum()), u[good], v[good]], axis=1)
    fit = np.linalg.lstsq(basis, position[good], rcond=None)[0]
    residual = position[good] - basis @ fit
    rms = float(np.sqrt(np.mean(residual**2)))
    out = {'plane_rms': rms, 'plane_slope': float(fit[2] * position.shape[0])}
    if estimate.sigma is not None:
        rest = np.ones(estimate.sigma.shape, dtype=bool)
        rest[rows, columns] = False
        blank = rest & (texture <= np.quantile(texture[rest], 0.25))
        regions = {'in_plane': ~rest, 'elsewhere': rest, 'blank': blank}
        out |= {f'sigma_{n}': float(np.median(estimate.sigma[r])) for n, r in regions.items()}
    return out


@dataclass(eq=False)
class DatasetResult:
    """Results of all methods on one data set.

    :param protocol: origin of the stacks, in one line.
    :param size: height and width of the images.
    :param accumulators: metrics by name of the method.
    :param example: first case with the estimate of each method, for figures.
    """

    dataset: Dataset
    protocol: str = 'stacks as recorded or rendered by the set itself, no protocol'
    unit: str = 'm'
    position_unit: str = 'dioptres'
    planes: int = 0
    size: tuple[int, int] = (0, 0)
    stacks: int = 0
    accumulators: dict[str, MetricAccumulator] = field(default_factory=dict)
    example: tuple[Case, dict[str, Estimate]] | None = None
