# SPDX-License-Identifier: Apache-2.0
"""Depth of a single focal stack: registration, downscaling of large images, estimation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import logging
import math

import cv2
import numpy as np

from dualfocus_ros.alignment.align import align as align_planes, warp_planes
from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.decimation import downsample, replace_image
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings

logger = logging.getLogger(__name__)

# No limits of depth: 1000 m is beyond any measurement from focus.
UNLIMITED = EstimatorSettings(depth_min=0.0, depth_max=1000.0)


@dataclass(frozen=True, eq=False)
class StackEstimate:
    """Depth of a stack, and the stack with aligned planes."""

    result: DepthResult
    stack: FocalStack
    alignment: Alignment | None  # None without alignment


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
        focus, lens = stack.focus_dioptres, settings.lens
        alignment = align_planes(images, focus, model='homography', lens=lens, progress=progress)
        images, covered = warp_planes(images, alignment)
        stack = replace(stack, planes=tuple(map(replace_image, stack.planes, images)))
        settings = replace(
            settings, alignment='off', breathing='none', breathing_centre_drift=(0.0, 0.0)
        )
    small = stack if max_pixels is None else _downscale(stack, max_pixels)
    if small is not stack:
        height, width = small.size
        logger.info('estimating at %dx%d and enlarging', width, height)
        if settings.lens is not None:
            pitch = settings.lens.pixel_pitch * stack.size[1] / width
            settings = replace(settings, lens=replace(settings.lens, pixel_pitch=pitch))
    estimator.settings = settings
    result = estimator.estimate(small, request)
    if small is not stack:
        result = _upscale(result, stack)
    if covered is not None:
        result = _invalidate(result, ~covered)
    return StackEstimate(result, stack, alignment)


def _downscale(stack: FocalStack, max_pixels: int) -> FocalStack:
    """Return the stack downsampled to at most ``max_pixels`` pixels per plane."""
    height, width = stack.size
    if height * width <= max_pixels:
        return stack
    factor = math.sqrt(max_pixels / (height * width))
    size = max(int(width * factor), 1), max(int(height * factor), 1)
    planes = tuple(replace_image(plane, downsample(plane.image, size)) for plane in stack.planes)
    return replace(stack, planes=planes)


def _upscale(result: DepthResult, stack: FocalStack) -> DepthResult:
    """Return the result at the size of ``stack``; invalid pixels stay invalid."""
    height, width = stack.size

    def resize(values: np.ndarray, method: int) -> np.ndarray:
        return cv2.resize(values, (width, height), interpolation=method)

    finite = np.isfinite(result.depth)
    inverse = np.where(finite, 1.0 / np.where(finite, result.depth, 1.0), 0.0)
    weight = resize(finite.astype(np.float32), cv2.INTER_LINEAR)
    smooth = resize(inverse.astype(np.float32), cv2.INTER_LINEAR)
    nearest = resize(result.depth, cv2.INTER_NEAREST)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.where(np.isfinite(nearest), weight / smooth, nearest).astype(np.float32)
    sigma = None
    if result.sigma is not None:
        sigma = resize(np.nan_to_num(result.sigma), cv2.INTER_LINEAR)
        sigma = np.where(np.isfinite(nearest), sigma, np.nan).astype(np.float32)
    return replace(
        result,
        depth=depth,
        sigma=sigma,
        all_in_focus=_fuse(stack, depth),
        camera=stack.planes[stack.reference].camera,
    )


def _fuse(stack: FocalStack, depth: np.ndarray) -> np.ndarray:
    """Blend the two planes focused next to the depth of each pixel, weighted linearly."""
    order = np.argsort(stack.focus_dioptres, kind='stable')
    focus = stack.focus_dioptres[order]
    with np.errstate(divide='ignore'):
        inverse = np.nan_to_num(1.0 / np.abs(depth), nan=focus[0], posinf=focus[-1])
    position = np.interp(inverse, focus, np.arange(len(focus)))
    image = np.zeros_like(stack.planes[0].image, dtype=np.float32)
    for rank, index in enumerate(order):
        weight = np.clip(1.0 - np.abs(position - rank), 0.0, 1.0).astype(np.float32)
        plane = stack.planes[index].image
        image += plane * (weight[..., None] if plane.ndim == 3 else weight)
    fused = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return fused if fused.ndim == 3 else np.repeat(fused[..., None], 3, axis=2)


def _invalidate(result: DepthResult, pixels: np.ndarray) -> DepthResult:
    """Return the result without depth, sigma, confidence and points at these pixels, (H, W)."""
    if not pixels.any():
        return result
    masked = {}
    for name, channels, invalid in (
        ('depth', ..., np.nan),
        ('sigma', ..., np.nan),
        ('confidence', ..., 0),
        ('points', np.s_[:3], np.nan),
    ):
        values = getattr(result, name)
        if values is not None:
            masked[name] = values.copy()
            masked[name][pixels, channels] = invalid
    return replace(result, **masked)
