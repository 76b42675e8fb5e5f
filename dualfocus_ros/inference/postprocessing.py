# SPDX-License-Identifier: Apache-2.0
"""Conversion of the network's prediction to metric depth and the other requested outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.depth_filters import flying_pixels, out_of_sweep_masks
from dualfocus_ros.inference.exposure import inflate_sigma_where_overexposed
from dualfocus_ros.inference.point_cloud import back_project, decimate_stride, decimate_voxel
from dualfocus_ros.inference.resampling import common_valid_mask, resample_masks
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_analysis import StackAnalysis
from dualfocus_ros.inference.stack_decoding import DecodedStack
from dualfocus_ros.inference.stage_timer import timed
from dualfocus_ros.models.dualfocus import Prediction

_MIN_DIOPTRES = 1e-6


@dataclass(eq=False)
class DeviceOutputs:
    """Outputs on the device; fields as in :class:`DepthResult`, None where not requested."""

    depth: Tensor
    sigma: Tensor | None = None
    confidence: Tensor | None = None
    all_in_focus: Tensor | None = None
    points: Tensor | None = None
    points_decimated: Tensor | None = None
    planes: Tensor | None = None
    probability: Tensor | None = None


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
) -> DeviceOutputs:
    """Compute depth and the requested outputs.

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
            prediction = limit_sigma(prediction, settings)
            overexposed = resample_masks(
                analysis.overexposed, analysis.positions, analysis.size, device
            )
            if overexposed is not None:
                prediction = inflate_sigma_where_overexposed(prediction, overexposed[order])
        beyond = out_of_sweep_masks(prediction.probability[0], focus, stack.truncated_ends)
        valid = common_valid_mask(analysis.positions, analysis.size, device)
        depth = metric_depth(prediction, settings, beyond, valid, with_sigma)
    outputs = DeviceOutputs(depth)
    if request.sigma:
        with timed(stages, 'sigma'):
            outputs.sigma = torch.where(is_finite(depth), metric_sigma(prediction), math.nan)
    if request.confidence:
        with timed(stages, 'confidence'):
            unknown = depth.isnan()
            if beyond is not None:
                unknown |= beyond[0] | beyond[1]
            outputs.confidence = confidence(prediction, focus).masked_fill(unknown, 0)
    with_points = (request.points or request.points_decimated) and analysis.camera is not None
    colour = None
    if request.all_in_focus or (with_points and settings.points_color):
        with timed(stages, 'colour'):
            colour = all_in_focus(decoded.images, prediction.probability[0])
    if request.all_in_focus:
        outputs.all_in_focus = colour
    if with_points and analysis.camera is not None:
        with timed(stages, 'points'):
            points = back_project(
                depth, analysis.camera, colour if settings.points_color else None
            )
            if request.points:
                outputs.points = points
            if request.points_decimated:
                outputs.points_decimated = _decimate(points, settings)
    if request.planes:
        with timed(stages, 'planes'):
            ranks = np.argsort(order).tolist()
            outputs.planes = torch.stack([to_rgb8(decoded.images[rank]) for rank in ranks])
            outputs.probability = prediction.probability[0][ranks].float()
    return outputs


def limit_sigma(prediction: Prediction, settings: EstimatorSettings) -> Prediction:
    """Raise sigma to the error that the optics cause, where the lens is known.

    The larger of both, not their sum: the network's sigma already contains the share of the
    optics for the lenses that it was trained on.
    """
    if settings.sigma_floor == 0.0:
        return prediction
    return replace(prediction, sigma=prediction.sigma.clamp_min(settings.sigma_floor))


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


def _decimate(points: Tensor, settings: EstimatorSettings) -> Tensor:
    if settings.points_voxel_size > 0.0:
        return decimate_voxel(points, settings.points_voxel_size)
    return decimate_stride(points, settings.points_decimation)
