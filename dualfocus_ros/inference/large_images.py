# SPDX-License-Identifier: Apache-2.0
"""Estimation of large images at reduced size."""

from __future__ import annotations

from dataclasses import replace
import math

import cv2
import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.decimation import downsample, replace_image
from dualfocus_ros.inference.result import DepthResult


def downscale_stack(stack: FocalStack, max_pixels: int) -> FocalStack:
    """Return the stack downsampled to at most ``max_pixels`` pixels per plane."""
    height, width = stack.size
    if height * width <= max_pixels:
        return stack
    factor = math.sqrt(max_pixels / (height * width))
    size = max(int(width * factor), 1), max(int(height * factor), 1)
    planes = tuple(replace_image(plane, downsample(plane.image, size)) for plane in stack.planes)
    return replace(stack, planes=planes)


def upscale_result(result: DepthResult, stack: FocalStack) -> DepthResult:
    """Return the result at the size of ``stack``, with an all-in-focus image of full resolution.

    Depth is interpolated as inverse depth, and invalid pixels stay invalid.
    """
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
        result, depth=depth, sigma=sigma, all_in_focus=_fuse(stack, depth), camera=_camera(stack)
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


def _camera(stack: FocalStack) -> PinholeCamera | None:
    return stack.planes[stack.reference].camera
