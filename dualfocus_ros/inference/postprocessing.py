# SPDX-License-Identifier: Apache-2.0
"""Conversion of the network's prediction to metric depth and the other requested outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
import math
import time

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.focal_stack import FOCUS_TOLERANCE, FocalStack
from dualfocus_ros.inference.exposure import inflate_sigma_where_overexposed
from dualfocus_ros.inference.network_runner import DecodedStack
from dualfocus_ros.inference.point_cloud import back_project, decimate_stride, decimate_voxel
from dualfocus_ros.inference.resampling import common_valid_mask, resample_masks
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_analysis import StackAnalysis
from dualfocus_ros.models.dualfocus import Prediction

_MIN_DIOPTRES = 1e-6
# Opposite neighbours in a window of 3 x 3: their row and column.
_OPPOSITES = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))


@contextmanager
def timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Record the milliseconds of a stage; on a GPU those of its launch, except where it waits."""
    began = time.monotonic()
    yield
    stages[name] = (time.monotonic() - began) * 1e3


def needs_sigma(request: OutputRequest, settings: EstimatorSettings) -> bool:
    """Return whether a requested output depends on the standard deviation."""
    return request.sigma or request.confidence or settings.max_sigma > 0.0


def postprocess(
    decoded: DecodedStack,
    stack: FocalStack,
    analysis: StackAnalysis,
    curvature: Tensor | None,
    settings: EstimatorSettings,
    request: OutputRequest,
    stages: dict[str, float],
) -> dict[str, Tensor]:
    """Return depth and the requested outputs on the device, by field of :class:`DepthResult`.

    :param curvature: (H, W) field curvature of the lens in dioptres, or None.
    :param stages: milliseconds by stage, updated.
    """
    prediction, order = decoded.prediction, decoded.order
    device = prediction.dioptres.device
    focus = stack.focus_dioptres[order]
    with timed(stages, 'depth'):
        with_sigma = needs_sigma(request, settings)
        if curvature is not None:
            prediction = replace(prediction, dioptres=prediction.dioptres + curvature)
        if with_sigma:
            if settings.sigma_floor > 0.0:
                # The larger of both, not their sum: the network's sigma already contains the
                # share of the optics for the lenses that it was trained on.
                sigma = prediction.sigma.clamp_min(settings.sigma_floor)
                prediction = replace(prediction, sigma=sigma)
            overexposed = resample_masks(
                analysis.overexposed, analysis.positions, analysis.size, device
            )
            if overexposed is not None:
                prediction = inflate_sigma_where_overexposed(prediction, overexposed[order])
        beyond = out_of_sweep_masks(prediction.probability[0], focus, stack.truncated_ends)
        valid = common_valid_mask(analysis.positions, analysis.size, device)
        depth = metric_depth(prediction, settings, beyond, valid, with_sigma)
    outputs = {'depth': depth}
    if request.sigma:
        with timed(stages, 'sigma'):
            outputs['sigma'] = torch.where(is_finite(depth), metric_sigma(prediction), math.nan)
    if request.confidence:
        with timed(stages, 'confidence'):
            unknown = depth.isnan()
            if beyond is not None:
                unknown |= beyond[0] | beyond[1]
            outputs['confidence'] = confidence(prediction, focus).masked_fill(unknown, 0)
    with_points = (request.points or request.points_decimated) and analysis.camera is not None
    colour = None
    if request.all_in_focus or (with_points and settings.points_color):
        with timed(stages, 'colour'):
            colour = all_in_focus(decoded.images, prediction.probability[0])
        if request.all_in_focus:
            outputs['all_in_focus'] = colour
    if with_points and analysis.camera is not None:
        with timed(stages, 'points'):
            colour = colour if settings.points_color else None
            points = back_project(depth, analysis.camera, colour)
            if request.points:
                outputs['points'] = points
            if request.points_decimated:
                size = settings.points_voxel_size
                outputs['points_decimated'] = (
                    decimate_voxel(points, size)
                    if size > 0.0
                    else decimate_stride(points, settings.points_decimation)
                )
    if request.planes:
        with timed(stages, 'planes'):
            ranks = np.argsort(order).tolist()
            outputs['planes'] = torch.stack([to_rgb8(decoded.images[rank]) for rank in ranks])
            outputs['probability'] = prediction.probability[0][ranks].float()
    return outputs


def metric_depth(
    prediction: Prediction,
    settings: EstimatorSettings,
    beyond: tuple[Tensor, Tensor] | None,
    valid: Tensor | None,
    with_sigma: bool,
) -> Tensor:
    """Return depth in metres, (H, W), with the special values of REP 117.

    :param beyond: (H, W) masks of :func:`out_of_sweep_masks`.
    :param valid: (H, W) pixels that all cameras saw; None for all pixels.
    :param with_sigma: whether the prediction has sigma.
    """
    # Planes beyond infinity (a lens driven past its stop) give negative inverse depths.
    dioptres = prediction.dioptres[0].clamp_min(_MIN_DIOPTRES)
    depth = 1.0 / dioptres
    # The sum is finite only where both terms are.
    known = prediction.dioptres + prediction.sigma if with_sigma else prediction.dioptres
    invalid = ~is_finite(known[0])
    nearer, farther = depth < settings.depth_min, depth > settings.depth_max
    if beyond is not None:
        farther, nearer = farther | beyond[0], nearer | beyond[1]
    if settings.max_sigma > 0.0:
        invalid |= (metric_sigma(prediction) > settings.max_sigma) & ~nearer & ~farther
    if settings.edge_filter > 0.0:
        invalid |= flying_pixels(dioptres, settings.edge_filter)
    if valid is not None:
        invalid |= ~valid
    # On a CPU where() takes half the time of masked_fill().
    depth = torch.where(nearer, -math.inf, depth)
    depth = torch.where(farther, math.inf, depth)
    return torch.where(invalid, math.nan, depth)


def out_of_sweep_masks(
    probability: Tensor, focus: np.ndarray, cut_off: tuple[bool, bool]
) -> tuple[Tensor, Tensor] | None:
    """Return the pixels that are sharpest in the outermost plane of a sweep that lost an end.

    They may be sharper in a missing plane: their depth is only bounded.

    :param probability: (N, H, W) focus probability of each plane.
    :param focus: (N,) dioptres.
    :param cut_off: whether planes are missing beyond the farthest and beyond the nearest one.
    :returns: (H, W) bool, beyond the far and beyond the near end; None where no end is missing.
    """
    if not any(cut_off):
        return None
    sharpest = torch.from_numpy(focus).to(probability.device)[probability.argmax(dim=0)]
    none = torch.zeros_like(sharpest, dtype=torch.bool)
    return (
        sharpest <= float(focus.min()) + FOCUS_TOLERANCE if cut_off[0] else none,
        sharpest >= float(focus.max()) - FOCUS_TOLERANCE if cut_off[1] else none,
    )


def flying_pixels(dioptres: Tensor, threshold: float) -> Tensor:
    """Return flying pixels, between a near and a far surface, where the network blurs an edge.

    A pixel flies when, in some direction, one neighbour is nearer and the opposite one farther,
    each by more than ``threshold`` times its inverse depth: q1 - q > t q and q - q2 > t q. The
    pixels on both sides of a sharp step stay, because their jump is on one side only. So does a
    surface at an angle of up to atan(t f) between normal and ray, f in pixels: 88 degrees for
    t = 0.05 and f = 570 px.

    :param dioptres: (H, W) inverse depth, finite or NaN.
    :param threshold: t, above 0.
    :returns: (H, W) bool; False next to NaN.
    """
    height, width = dioptres.shape
    padded = functional.pad(dioptres[None, None], (1, 1, 1, 1), mode='replicate')[0, 0]
    # Comparisons are slow on a CPU: one at the end, of the largest excess of both jumps over the
    # smaller one. fmax() ignores NaN.
    excess: Tensor | None = None
    for (row, column), (other_row, other_column) in _OPPOSITES:
        one = padded[row : row + height, column : column + width]
        other = padded[other_row : other_row + height, other_column : other_column + width]
        # Above the lower neighbour and below the higher one; the smaller of both differences.
        above = torch.minimum(one, other).neg_().add_(dioptres)
        below = torch.maximum(one, other).sub_(dioptres)
        both = torch.minimum(above, below, out=above)
        excess = both if excess is None else torch.fmax(excess, both, out=excess)
    assert excess is not None
    return excess > threshold * dioptres


def metric_sigma(prediction: Prediction) -> Tensor:
    """Return sigma_z = z^2 sigma_q in metres, the first-order propagation through z = 1 / q."""
    return prediction.sigma[0] / prediction.dioptres[0].clamp_min(_MIN_DIOPTRES).square()


def confidence(prediction: Prediction, focus_dioptres: np.ndarray) -> Tensor:
    """Return uint8 (H, W): 255 times the probability of an error below half a plane spacing."""
    span = float(focus_dioptres.max() - focus_dioptres.min())
    half_spacing = 0.5 * span / (len(focus_dioptres) - 1)
    probability = torch.erf(half_spacing / (math.sqrt(2.0) * prediction.sigma[0]))
    return (probability.nan_to_num(0.0) * 255.0).round().to(torch.uint8)


def all_in_focus(images: Sequence[Tensor], probability: Tensor) -> Tensor:
    """Return uint8 (H, W, 3): planes weighted by their focus probability, sum p_n I_n."""
    blended = images[0] * probability[0]
    for image, weight in zip(images[1:], probability[1:], strict=True):
        blended.addcmul_(image, weight[None])
    return to_rgb8(blended)


def to_rgb8(image: Tensor) -> Tensor:
    """Return a (3, H, W) image of 0 to 1 as uint8 (H, W, 3)."""
    return (image.permute(1, 2, 0) * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def is_finite(values: Tensor) -> Tensor:
    """Return ``isfinite()``, in a third of its time on a CPU."""
    return values.abs() < math.inf
