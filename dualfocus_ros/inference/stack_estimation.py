# SPDX-License-Identifier: Apache-2.0
"""Depth of a single focal stack: registration, downscaling of large images, estimation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import logging

import numpy as np

from dualfocus_ros.alignment.align import align as align_planes, warp_planes
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.decimation import replace_image
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.large_images import downscale_stack, upscale_result
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings

logger = logging.getLogger(__name__)

# No limits of depth: 1000 m is beyond any measurement from focus.
UNLIMITED = EstimatorSettings(depth_min=0.0, depth_max=1000.0)


@dataclass(frozen=True, eq=False)
class StackEstimate:
    """Depth of a stack and its aligned planes.

    :param result: at the size of the stack.
    :param stack: the stack, aligned if requested.
    :param alignment: None without alignment.
    """

    result: DepthResult
    stack: FocalStack
    alignment: Alignment | None


def estimate_stack(
    estimator: DepthEstimator,
    stack: FocalStack,
    request: OutputRequest,
    settings: EstimatorSettings = UNLIMITED,
    *,
    align: bool = True,
    max_pixels: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> StackEstimate:
    """Estimate the depth of a stack of photographs.

    :param settings: replace those of the estimator; the lens is that of the images at full size.
    :param align: register the planes by homographies first, as hand-held cameras and lenses that
        breathe need. Replaces ``breathing`` and ``alignment`` of the settings.
    :param max_pixels: downscale larger images for the estimate; None for no limit.
    :param progress: called once per registered plane.
    :returns: pixels outside an aligned plane are invalid.
    """
    alignment, covered = None, None
    if align:
        images = [plane.image for plane in stack.planes]
        alignment = align_planes(
            images,
            stack.focus_dioptres,
            model='homography',
            lens=settings.lens,
            progress=progress,
        )
        images, covered = warp_planes(images, alignment)
        stack = replace(stack, planes=tuple(map(replace_image, stack.planes, images)))
        settings = replace(
            settings, alignment='off', breathing='none', breathing_centre_drift=(0.0, 0.0)
        )
    small = stack if max_pixels is None else downscale_stack(stack, max_pixels)
    if small is not stack:
        height, width = small.size
        logger.info('estimating at %dx%d and enlarging', width, height)
        if settings.lens is not None:
            pitch = settings.lens.pixel_pitch * stack.size[1] / width
            settings = replace(settings, lens=replace(settings.lens, pixel_pitch=pitch))
    estimator.settings = settings
    result = estimator.estimate(small, request)
    if small is not stack:
        result = upscale_result(result, stack)
    if covered is not None:
        result = _invalidate(result, ~covered)
    return StackEstimate(result, stack, alignment)


def _invalidate(result: DepthResult, pixels: np.ndarray) -> DepthResult:
    """Return the result without depth, sigma, confidence and points at these pixels, (H, W)."""
    if not pixels.any():
        return result
    sigma, confidence, points = result.sigma, result.confidence, result.points
    return replace(
        result,
        depth=np.where(pixels, np.nan, result.depth).astype(np.float32),
        sigma=None if sigma is None else np.where(pixels, np.nan, sigma).astype(np.float32),
        confidence=None if confidence is None else np.where(pixels, 0, confidence),
        points=None if points is None else _without(points, pixels),
    )


def _without(points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    points = points.copy()
    points[pixels, :3] = np.nan
    return points
