# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate lens``: pixels of blur per dioptre."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.cli import image_arguments
from dualfocus_ros.cli.arguments import add_lens_arguments, length
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.exceptions import UsageError

SUMMARY = 'kappa: pixels of blur per dioptre out of focus'
METHODS = ('auto', 'edge', 'texture')
WHAT_TO_RECORD = """\
what to record:
  Put a flat target square to the camera, in the middle of the focus range: best a dark area
  next to a bright one with a straight edge, turned by about 5 degrees against the pixels and
  several times as wide as the largest blur; texture without an edge works too. Sweep the lens
  from well before to well behind the target, in 10 to 20 steps, so that the blur reaches 10
  pixels or more, with fixed exposure and nothing overexposed, and record images and their focus.
  The distance need not be known. Calibrate the focus scale first (calibrate
  focus).

example:
  dualfocus calibrate lens sweeps --breathing breathing.yaml -o lens.yaml

result: lens.kappa of depth_node: diameter of the circle of confusion in pixels, of the image as
it is published, per dioptre. It is proportional to the width of the image.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='SWEEPS', help='bag, or folder of images')
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='auto',
        help='auto: edge if one is found, else texture',
    )
    parser.add_argument(
        '--distance',
        type=length,
        metavar='M',
        help='of the target, for a sweep that does not pass its focus',
    )
    parser.add_argument(
        '--breathing',
        type=Path,
        metavar='YAML',
        help='result of calibrate breathing: kappa then refers to the image focused at infinity; '
        'without it and --focal-length, to the focus of the target',
    )
    lens = parser.add_argument_group('nominal values of the lens, for comparison')
    add_lens_arguments(lens)
    image_arguments.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Measure the blur at all settings and fit."""
    from dualfocus_ros.calibration.blur_scale import (
        blur_scale_result,
        compare_with_lens,
        fit_blur_scale,
    )
    from dualfocus_ros.calibration.blur_widths import measure_blur
    from dualfocus_ros.calibration.target_images import group_by_focus

    scale, reference = _magnification(arguments)
    images = image_arguments.read_images(arguments.source, arguments)
    settings = group_by_focus(images, keep=1)
    with progress_bar('measuring', total=len(settings)) as bar:
        widths = measure_blur(settings, arguments.method, arguments.region, bar.update)
    known = None if arguments.distance is None else 1.0 / arguments.distance
    # Use the distance only for sweeps that do not pass it: the fitted focus is independent of
    # errors of the focus scale.
    inside = known is None or widths.dioptres.min() < known < widths.dioptres.max()
    fit = fit_blur_scale(widths, scale, None if inside else known)
    lens = compare_with_lens(
        fit.kappa, arguments.focal_length, arguments.f_number, arguments.pixel_pitch
    )
    return blur_scale_result(fit, scale, reference, known, lens)


def _magnification(
    arguments: argparse.Namespace,
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Return the image scale m(q), and the image that kappa then refers to."""
    focal = arguments.focal_length
    if arguments.breathing is not None:
        from dualfocus_ros.calibration.parameter_file import read_numbers
        from dualfocus_ros.nodes.parameters.depth_parameters import SPECS

        name = 'breathing.coefficients'
        try:
            coefficients = SPECS[name].coerce(read_numbers(arguments.breathing, name))
        except ValueError as error:
            raise UsageError(f'--breathing: {error}') from None
        polynomial = np.polynomial.Polynomial((1.0, *coefficients))
        return polynomial, 'the image focused at infinity'
    if focal is not None:
        return lambda q: 1.0 / (1.0 - focal * q), 'the image focused at infinity'
    return np.ones_like, 'the image at the focus of the target'
