# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate field``: field curvature."""

from __future__ import annotations

import argparse
from pathlib import Path

from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.cli import image_arguments
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.exceptions import CalibrationError

SUMMARY = 'field curvature: the shape of the surface that the lens focuses on'
WHAT_TO_RECORD = """\
what to record:
  Sweep over a flat target with fine texture all over: a wall with posters or newspaper, square to
  the camera or oblique, or a floor, seen obliquely. It fills the image from the middle to the
  corners and lies well inside the sweep, so that each part of it gets sharp and blurred again.
  Oblique is better, because its parts then lie at all positions between the steps.
  10 to 30 steps, at most 2 to 4 pixels of blur apart, camera on a tripod: the images are not
  aligned. Several sweeps, of other distances and slants, count together.
  With --region only a part of the image is used, which must be the same in all sweeps.
  Calibrate the focus scale first (calibrate focus).

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
    image_arguments.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Find the focus at which each part of the targets is sharp, and fit."""
    from dualfocus_ros.calibration.field_curvature_fit import (
        field_curvature_result,
        fit_field_curvature,
        measure_target,
    )
    from dualfocus_ros.calibration.target_images import group_by_focus

    targets = []
    sizes = set()
    for source in arguments.sources:
        centre = image_arguments.principal_point(source, arguments)
        groups = group_by_focus(image_arguments.read_images(source, arguments), keep=1)
        images = [group[0] for group in groups]
        sizes |= {image.pixels.shape[:2] for image in images}
        with progress_bar('measuring', total=len(images)) as bar:
            try:
                targets.append(measure_target(images, arguments.region, centre, bar.update))
            except CalibrationError as error:
                raise CalibrationError(f'{source}: {error}') from None
    if len(sizes) > 1:
        raise CalibrationError(
            'the sweeps differ in the size of their images: record one camera in one mode'
        )
    return field_curvature_result(fit_field_curvature(targets))
