# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate field``: field curvature."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dualfocus_ros.calibration.field_curvature_fit import (
    FieldCurvatureFit,
    TargetFocus,
    fit_field_curvature,
    measure_target,
)
from dualfocus_ros.calibration.target_images import FocusImage, group_by_focus
from dualfocus_ros.cli import focus_frames
from dualfocus_ros.cli.calibrate import CalibrationResult
from dualfocus_ros.cli.progress import progress_bar
from dualfocus_ros.exceptions import CalibrationError

WHAT_TO_RECORD = """\
what to record:
  Sweep over a flat target with fine texture all over: a wall with posters or newspaper, square to
  the camera or oblique, or a floor, seen obliquely. It fills the image from the middle to the
  corners, and what of the image it fills lies well inside the sweep: each part of it gets sharp
  and blurred again. Oblique is better, as its parts then lie at all places between the steps.
  10 to 30 steps, at most 2 to 4 pixels of blur apart, camera on a tripod: the images are taken as
  they are and not aligned. Several sweeps, of other distances and slants, count together.
  With --region only a part of the image is used, which must be the same in all sweeps.
  The focus scale must be right before (calibrate focus).

example:
  dualfocus calibrate field floor --region 0,200,640,280 -o field.yaml

result: lens.field_curvature of depth_node: c2 and c4 in c2 r^2 + c4 r^4, the dioptres that the
lens focuses nearer at r half diagonals of the image from the principal point.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'sources',
        nargs='+',
        type=Path,
        metavar='SWEEPS',
        help='bag, or folder of images; one for each target',
    )
    focus_frames.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Find where each part of the targets is sharp and fit."""
    from dualfocus_ros.calibration.calibration_plots import field_figure

    targets = []
    sizes = set()
    for source in arguments.sources:
        centre = focus_frames.camera_centre(source, arguments)
        groups = group_by_focus(focus_frames.read_frames(source, arguments), keep=1)
        images = [group[0] for group in groups]
        sizes |= {image.pixels.shape[:2] for image in images}
        targets.append(_measure(source, images, centre, arguments))
    if len(sizes) > 1:
        raise CalibrationError(
            'the sweeps differ in the size of their images: record one camera in one mode'
        )
    result = fit_field_curvature(targets)
    return CalibrationResult(
        {'lens.field_curvature': list(result.coefficients)},
        _summary(result),
        _lines(result),
        field_figure(result),
    )


def _measure(
    source: Path,
    images: list[FocusImage],
    centre: tuple[float, float] | None,
    arguments: argparse.Namespace,
) -> TargetFocus:
    with progress_bar('measuring', total=len(images)) as bar:
        try:
            return measure_target(images, focus_frames.region(arguments), centre, bar.update)
        except CalibrationError as error:
            raise CalibrationError(f'{source}: {error}') from None


def _lines(result: FieldCurvatureFit) -> list[str]:
    (c2, c4), (e2, e4) = result.coefficients, result.errors
    fourth = (
        'c4 = 0, which the targets do not tell from 0'
        if math.isnan(e4)
        else f'c4 = {c4:+.4f} (standard error {e4:.4f})'
    )
    blocks = sum(len(target.x) for target in result.targets)
    return [
        f'field: c2 = {c2:+.4f} (standard error {e2:.4f}), {fourth}, in 1/m, from {blocks} blocks '
        f'of {len(result.targets)} target{"s" * (len(result.targets) != 1)}',
        f'check: the targets are off a plane by {result.before.rms:.4f} dioptres (RMS) before and '
        f'{result.after.rms:.4f} after; measured up to r = {result.reach:.2f}',
    ]


def _summary(result: FieldCurvatureFit) -> dict[str, object]:
    return {
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
