# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate breathing``: image scale and centre over focus."""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import chain
from pathlib import Path

from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.cli import image_arguments
from dualfocus_ros.cli.console import progress_bar

SUMMARY = 'how the image scale and its centre follow the focus'
WHAT_TO_RECORD = """\
what to record:
  Put a flat target with coarse and fine texture square to the camera, filling the whole image,
  at about the middle of the focus range in dioptres (for 0 to 2.5 dioptres at 0.8 m), camera and
  target on firm stands, light without flicker. Move the lens through 7 to 12 settings that span
  the range of use, in steps, and record images and their focus: two sweeps of focus_sweep_node
  are enough. Or take one image for each setting and name the files by their dioptres
  (focus_0.00.png, focus_0.25.png, ...). Calibrate the focus scale first (calibrate focus).

example:
  dualfocus calibrate breathing sweeps -o breathing.yaml

result: breathing.model, breathing.coefficients and breathing.centre_drift of depth_node.
"""
_IMAGES_PER_SETTING = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='SWEEPS', help='bag, or folder of images')
    image_arguments.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Register all settings to the sharpest one and fit."""
    from dualfocus_ros.calibration.breathing import breathing_result, fit_breathing
    from dualfocus_ros.calibration.target_images import group_by_focus
    from dualfocus_ros.calibration.view_registration import measure_views

    region = arguments.region
    centre = image_arguments.principal_point(arguments.source, arguments)
    images = image_arguments.read_images(arguments.source, arguments)
    first = next(images)
    image_width = first.pixels.shape[1]
    images = chain((first,), images)
    if region is not None:
        images = (replace(image, pixels=region.crop(image.pixels)) for image in images)
        if centre is not None:
            centre = centre[0] - region.x, centre[1] - region.y
    settings = group_by_focus(images, _IMAGES_PER_SETTING)
    with progress_bar('registering', total=sum(len(group) for group in settings)) as bar:
        views, reference, width = measure_views(settings, centre, bar.update)
    fit = fit_breathing(views, reference, width)
    return breathing_result(fit, image_width)
