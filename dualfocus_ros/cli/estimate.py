# SPDX-License-Identifier: Apache-2.0
"""``dualfocus estimate``: depth from the images of a focal stack on disk."""

from __future__ import annotations

import argparse
from dataclasses import replace
import logging
import math
from pathlib import Path
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dualfocus_ros.camera.depth_resolution import check_range
from dualfocus_ros.camera.field_curvature import check_coefficients
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli.arguments import (
    add_device_argument,
    add_json_argument,
    add_lens_arguments,
    add_model_argument,
    intrinsics,
    lens_from,
    positive,
)
from dualfocus_ros.cli.console import echo, echo_json, progress_bar
from dualfocus_ros.cli.focus_arguments import find_images, focus_dioptres
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES, FocalStack, Plane
from dualfocus_ros.io.stack_files import StackImage, exif_camera, read_stack_image, to_uint8

if TYPE_CHECKING:
    from dualfocus_ros.inference.stack_estimation import StackEstimate

logger = logging.getLogger(__name__)

ASSUMED_FIELD_OF_VIEW = math.radians(60.0)
_BAR_FROM = 8  # images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Writes OUT/depth.npy (float32 metres of the nearest-focused image, NaN invalid), '
        'sigma.npy (one standard deviation, metres), depth.png (16-bit millimetres, 0 invalid), '
        'depth_color.png, all_in_focus.png, panel.png and cloud.ply.'
    )
    parser.add_argument(
        'images', nargs='*', metavar='IMAGES', help='image files, or one folder (natural order)'
    )
    parser.add_argument('-o', '--output', required=True, metavar='OUT', type=Path, help='folder')
    focus = parser.add_argument_group('focus, one per image in their order (default: from EXIF)')
    either = focus.add_mutually_exclusive_group()
    text = 'or the name of a text file with the numbers'
    either.add_argument('--focus-dioptres', nargs='+', metavar='D', help=f'1/m, {text}')
    either.add_argument('--focus-distances', nargs='+', metavar='METRES', help=f'metres, {text}')
    camera = parser.add_argument_group('camera, if known')
    add_lens_arguments(camera)
    camera.add_argument(
        '--intrinsics',
        type=intrinsics,
        metavar='FX,FY,CX,CY',
        help='of the nearest-focused image, in pixels',
    )
    camera.add_argument(
        '--field-curvature',
        nargs=2,
        type=float,
        default=(0.0, 0.0),
        metavar=('C2', 'C4'),
        help='field curvature, 1/m at the image corner (dualfocus calibrate field)',
    )
    parser.add_argument(
        '--align',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='register the images to each other first (default: yes)',
    )
    add_model_argument(parser)
    add_device_argument(parser)
    parser.add_argument(
        '--max-pixels',
        type=positive,
        default=1.5e6,
        metavar='N',
        help='downscale larger images for the estimate (default: 1.5 million)',
    )
    add_json_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Estimate, write and print a summary."""
    names = arguments.images + _names_after_numbers(arguments)
    lens = lens_from(arguments)
    try:
        check_coefficients(arguments.field_curvature)
    except ValueError as error:
        raise UsageError(f'--field-curvature: {error}') from None
    images = _read(names)
    dioptres = focus_dioptres(images, arguments.focus_dioptres, arguments.focus_distances)
    images, dioptres = _limit_planes(images, dioptres)
    if len(images) < MIN_PLANES:
        raise CommandError(
            'only one image: depth from focus compares two or more images of one scene, each '
            'focused at a different distance'
        )
    if len(set(dioptres)) < MIN_PLANES:
        raise UsageError('all images are focused at one distance: at least two must differ')
    if arguments.output.exists() and not arguments.output.is_dir():
        raise CommandError(
            f'{arguments.output} exists and is not a folder: choose another --output'
        )
    camera = _camera(arguments, images, dioptres, lens)
    pixels = to_uint8([image.pixels for image in images])
    planes = tuple(
        Plane(image, focus, camera=camera if focus == max(dioptres) else None)
        for image, focus in zip(pixels, dioptres, strict=True)
    )
    estimate, summary = _estimate(arguments, FocalStack(planes), lens)
    from dualfocus_ros.visualization.result_files import write_result_files

    summary['points'] = write_result_files(
        arguments.output, estimate.stack.planes, estimate.result, camera
    )
    summary = {'output': str(arguments.output), **summary}
    if arguments.json:
        echo_json(summary)
    else:
        _print(summary)
    return 0


def _names_after_numbers(arguments: argparse.Namespace) -> list[str]:
    """Return image names that argparse assigned to a focus option, and remove them there."""
    for option in ('focus_dioptres', 'focus_distances'):
        words = getattr(arguments, option)
        if words is None or arguments.images:
            continue
        numbers = 1
        while numbers < len(words) and not Path(words[numbers]).exists():
            numbers += 1
        setattr(arguments, option, words[:numbers])
        return list(words[numbers:])
    return []


def _read(names: list[str]) -> list[StackImage]:
    if not names:
        raise UsageError('no images given: name the image files or their folder')
    paths = find_images(names)
    shown = progress_bar('reading', paths) if len(paths) >= _BAR_FROM else paths
    images = [read_stack_image(path) for path in shown]
    sizes = {image.pixels.shape[:2] for image in images}
    if len(sizes) > 1:
        first = images[0]
        other = next(i for i in images if i.pixels.shape[:2] != first.pixels.shape[:2])
        raise CommandError(
            f'the images differ in size: {first.path.name} has {_size(first.pixels)}, '
            f'{other.path.name} {_size(other.pixels)}; all must have one size'
        )
    return images


def _limit_planes(
    images: list[StackImage], dioptres: list[float]
) -> tuple[list[StackImage], list[float]]:
    """Return at most MAX_PLANES planes, evenly spaced in the order of focus, with both ends."""
    if len(images) <= MAX_PLANES:
        return images, dioptres
    order = np.argsort(dioptres, kind='stable')
    picks = np.linspace(0, len(order) - 1, MAX_PLANES).round().astype(int)
    kept = sorted(int(order[pick]) for pick in picks)
    text = '%d images are more than the %d planes of a stack: using %d evenly spaced ones'
    logger.warning(text, len(images), MAX_PLANES, len(kept))
    return [images[k] for k in kept], [dioptres[k] for k in kept]


def _camera(
    arguments: argparse.Namespace,
    images: list[StackImage],
    dioptres: list[float],
    lens: Lens | None,
) -> PinholeCamera:
    """Return the intrinsics of the nearest plane: given, from the lens, from EXIF or assumed."""
    height, width = images[0].pixels.shape[:2]
    centre = (width - 1) / 2, (height - 1) / 2
    if arguments.intrinsics is not None:
        return PinholeCamera(width, height, *arguments.intrinsics)
    if lens is not None:
        focal = lens.focal_length_px(max(dioptres))
        return PinholeCamera(width, height, focal, focal, *centre)
    camera = exif_camera(images[int(np.argmax(dioptres))])
    if camera is not None:
        logger.info('EXIF gives a focal length of %.0f pixels for the cloud', camera.fx)
        return camera
    focal = 0.5 * width / math.tan(0.5 * ASSUMED_FIELD_OF_VIEW)
    logger.warning(
        'no intrinsics known: the cloud assumes a horizontal field of view of 60 degrees '
        '(--intrinsics, or --focal-length with --f-number and --pixel-pitch); depth needs none'
    )
    return PinholeCamera(width, height, focal, focal, *centre)


def _estimate(
    arguments: argparse.Namespace, stack: FocalStack, lens: Lens | None
) -> tuple[StackEstimate, dict[str, Any]]:
    """Return the estimate, with NaN wherever depth is not finite, and its summary."""
    # torch takes seconds to import.
    from dualfocus_ros.inference.estimator import DepthEstimator
    from dualfocus_ros.inference.result import OutputRequest
    from dualfocus_ros.inference.stack_estimation import UNLIMITED, estimate_stack

    settings = replace(
        UNLIMITED,
        breathing='thin_lens' if lens is not None and not arguments.align else 'none',
        lens=lens,
        alignment='off',
        field_curvature=tuple(arguments.field_curvature),
    )
    began = time.monotonic()
    estimator = DepthEstimator(arguments.model, arguments.device, settings=settings)
    with progress_bar('estimating', total=len(stack.planes) - 1, unit='plane') as bar:
        estimate = estimate_stack(
            estimator,
            stack,
            OutputRequest(sigma=True, all_in_focus=True),
            settings,
            align=arguments.align,
            max_pixels=int(arguments.max_pixels),
            progress=bar.update,
        )
    result = estimate.result
    assert result.sigma is not None
    valid = np.isfinite(result.depth)
    depth = np.where(valid, result.depth, np.nan).astype(np.float32)
    sigma = np.where(valid, result.sigma, np.nan).astype(np.float32)
    estimate = replace(estimate, result=replace(result, depth=depth, sigma=sigma))
    seconds = time.monotonic() - began
    if estimator.settings.lens is not None:
        # At the size of the estimate.
        kappa, far = estimator.settings.lens.kappa(), float(stack.focus_dioptres.min())
        check = check_range(kappa, settings.depth_max, far)
        if check.exceeded:
            logger.warning('%s', check)
    return estimate, _summary(estimate, estimator.model_name, estimator.device_name, seconds)


def _summary(estimate: StackEstimate, model: str, device: str, seconds: float) -> dict[str, Any]:
    result, alignment = estimate.result, estimate.alignment
    valid = result.depth[np.isfinite(result.depth)]
    assert result.sigma is not None
    depth: dict[str, float | None] = dict.fromkeys(('near', 'median', 'far', 'sigma'))
    if valid.size:
        values = (*np.percentile(valid, (1, 50, 99)), np.nanmedian(result.sigma))
        depth = {name: round(float(v), 4) for name, v in zip(depth, values, strict=True)}
    residual = None
    if alignment is not None:
        others = np.delete(alignment.residuals_px, alignment.reference)
        known = others[np.isfinite(others)]
        residual = round(float(np.median(known)), 3) if known.size else None
    return {
        'width': result.depth.shape[1],
        'height': result.depth.shape[0],
        'planes': len(estimate.stack.planes),
        'reference': result.reference,
        'focus_dioptres': [round(float(q), 6) for q in estimate.stack.focus_dioptres],
        'depth_m': depth,
        'valid': round(float(valid.size / result.depth.size), 4),
        'model': model,
        'device': device,
        'seconds': round(seconds, 2),
        'alignment_residual_px': residual,
    }


def _print(summary: dict[str, Any]) -> None:
    depth = summary['depth_m']
    if depth['median'] is None:
        spread = 'no valid depth'
    else:
        spread = (
            f'depth {depth["near"]:.3g} to {depth["far"]:.3g} m (median {depth["median"]:.3g} m, '
            f'sigma {depth["sigma"]:.2g} m), {100 * summary["valid"]:.1f} % valid'
        )
    aligned = summary['alignment_residual_px']
    extra = '' if aligned is None else f', aligned to {aligned:.2f} px'
    echo(
        f'{summary["planes"]} planes of {summary["width"]}x{summary["height"]}{extra}: {spread}\n'
        f'{summary["model"]} on {summary["device"]}, {summary["seconds"]} s; '
        f'{summary["points"]} points\nwritten to {summary["output"]}'
    )


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]}x{image.shape[0]}'
