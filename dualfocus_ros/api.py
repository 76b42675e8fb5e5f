# SPDX-License-Identifier: Apache-2.0
"""Depth of a focal stack in one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_estimation import UNLIMITED, estimate_stack
from dualfocus_ros.io.stack_files import read_stack_image, to_dioptres, to_uint8


def estimate_depth(
    images: Sequence[np.ndarray | str | Path],
    *,
    focus_distances: Sequence[float] | None = None,
    focus_dioptres: Sequence[float] | None = None,
    model: str = 'auto',
    device: str = 'auto',
    align: bool = True,
    camera: PinholeCamera | None = None,
    settings: EstimatorSettings | None = None,
    request: OutputRequest = OutputRequest(sigma=True, all_in_focus=True),
) -> DepthResult:
    """Estimate metric depth from images of one scene at different focus distances.

    The network stays loaded between calls with the same model and device. Not thread-safe.

    :param images: 2 to 32 images of one size, arrays (H, W) grey or (H, W, 3) RGB of uint8 or
        uint16, or paths of image files.
    :param focus_distances: metres from the camera of each image, ``inf`` allowed; or
    :param focus_dioptres: the same in 1/m. Exactly one of the two is given.
    :param model: shipped name, ``auto`` or path of a ``.safetensors`` file.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param align: register the images to each other first, as hand-held cameras and lenses that
        breathe need. Replaces ``breathing`` and ``alignment`` of ``settings``.
    :param camera: intrinsics of the nearest-focused image, for points.
    :param settings: depth limits, filters and lens; None sets no depth limits.
    :param request: outputs besides depth.
    :returns: depth and the requested outputs in the geometry of the nearest-focused image. Pixels
        outside an aligned image are invalid.
    :raises DataError: for images or focus that do not make a focal stack.
    :raises WeightsError: if the model cannot be loaded.
    :raises DeviceError: if the device is unknown or absent.
    """
    if align and request.points_decimated:
        raise DataError('OutputRequest.points_decimated needs align=False')
    dioptres = _focus(focus_distances, focus_dioptres, len(images))
    stack = _stack(images, dioptres, camera)
    return estimate_stack(
        _estimator(model, device), stack, request, settings or UNLIMITED, align=align
    ).result


def _stack(
    images: Sequence[np.ndarray | str | Path], dioptres: list[float], camera: PinholeCamera | None
) -> FocalStack:
    """Return the stack of these images; only the nearest-focused plane gets the camera."""
    pixels = [
        image if isinstance(image, np.ndarray) else read_stack_image(Path(image)).pixels
        for image in images
    ]
    for image in pixels:
        if image.dtype not in (np.uint8, np.uint16):
            raise DataError(f'images: expected uint8 or uint16, got {image.dtype}')
    nearest = int(np.argmax(dioptres)) if dioptres else 0
    try:
        return FocalStack(
            tuple(
                Plane(image, focus, camera=camera if index == nearest else None)
                for index, (image, focus) in enumerate(
                    zip(to_uint8(pixels), dioptres, strict=True)
                )
            )
        )
    except ValueError as error:
        raise DataError(f'images: {error}') from None


@lru_cache(maxsize=1)
def _estimator(model: str, device: str) -> DepthEstimator:
    return DepthEstimator(model, device)


def _focus(
    distances: Sequence[float] | None, dioptres: Sequence[float] | None, count: int
) -> list[float]:
    """Return the focus of each image in dioptres; errors name the parameter of the caller."""
    if (distances is None) == (dioptres is None):
        raise DataError('give either focus_distances (metres) or focus_dioptres (1/m)')
    name, unit, values = (
        ('focus_dioptres', 'dioptres', dioptres)
        if dioptres is not None
        else ('focus_distances', 'metres', distances)
    )
    assert values is not None
    if len(values) != count:
        raise DataError(f'{name}: {len(values)} values for {count} images; give one for each')
    try:
        return to_dioptres(values, unit)
    except DataError as error:
        raise DataError(f'{name}: {error}') from None
