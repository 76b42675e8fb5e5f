# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate lens``: pixels of blur per dioptre."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import math
from pathlib import Path

import numpy as np

from dualfocus_ros.calibration.blur_scale import (
    METHODS,
    BlurScale,
    fit_blur_scale,
    measure_blur,
)
from dualfocus_ros.calibration.parameter_file import read_numbers
from dualfocus_ros.calibration.target_images import group_by_focus
from dualfocus_ros.cli import focus_frames, lens_arguments
from dualfocus_ros.cli.argument_types import length
from dualfocus_ros.cli.calibrate import CalibrationResult
from dualfocus_ros.cli.progress import progress_bar
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.depth_parameters import SPECS

WHAT_TO_RECORD = """\
what to record:
  Put a flat target square to the camera, in the middle of the focus range: best a dark area
  beside a bright one with a straight edge, turned by about 5 degrees against the pixels and
  several times as wide as the largest blur; texture without an edge does too. Sweep the lens
  from well before to well behind the target, in 10 to 20 steps, so that the blur reaches 10
  pixels or more, with fixed exposure and nothing overexposed, and record images and their focus.
  The distance need not be known. The focus scale must be right before (calibrate focus).

example:
  dualfocus calibrate lens sweeps --breathing breathing.yaml -o lens.yaml

result: lens.kappa of depth_node: diameter of the circle of confusion in pixels, of the image as
it is published, per dioptre. Another resolution has another one, in proportion to the width.
"""
_DISAGREEMENT = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='SWEEPS', help='bag, or folder of images')
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='auto',
        help='auto: an edge where one is found, else texture',
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
        help='result of calibrate breathing: refers kappa to the image focused at infinity; '
        'without, and without --focal-length, it is that at the focus of the target',
    )
    lens = parser.add_argument_group('what is known of the lens, to compare')
    lens_arguments.add_arguments(lens)
    focus_frames.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Measure the blur at all settings and fit."""
    from dualfocus_ros.calibration.calibration_plots import blur_figure

    scale, where = _magnification(arguments)
    settings = group_by_focus(focus_frames.read_frames(arguments.source, arguments), keep=1)
    with progress_bar('measuring', total=len(settings)) as bar:
        widths = measure_blur(
            settings, arguments.method, focus_frames.region(arguments), bar.update
        )
    known = None if arguments.distance is None else 1.0 / arguments.distance
    # The distance only helps where the sweep does not pass it: the fitted focus is not misled by
    # a focus scale that is off.
    inside = known is None or widths.dioptres.min() < known < widths.dioptres.max()
    result = fit_blur_scale(widths, scale, None if inside else known)
    comparison, numbers = _compare(arguments, result.kappa)
    summary: dict[str, object] = {
        'kappa': result.kappa,
        'kappa_error': result.kappa_error,
        'focus_dioptres': result.focus,
        'focus_error': result.focus_error,
        'floor_px': 4.0 * result.floor,
        'method': widths.method,
        'kappa_of': where,
        **numbers,
        'widths': [
            {
                'dioptres': float(q),
                'diameter_px': 4.0 * float(s),
                'residual_px': 4.0 * float(r),
                'used': bool(u),
            }
            for q, s, r, u in zip(
                widths.dioptres, widths.sigma, result.residuals, result.used, strict=True
            )
        ],
    }
    return CalibrationResult(
        {'lens.kappa': result.kappa},
        summary,
        _lines(result, where) + comparison,
        blur_figure(result, scale),
        _warnings(result, known),
    )


def _magnification(
    arguments: argparse.Namespace,
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Return the image scale m(q), and what kappa then is of."""
    if arguments.breathing is not None:
        coefficients = _coefficients(arguments.breathing)
        return (
            lambda q: np.polynomial.polynomial.polyval(q, (1.0, *coefficients)),
            'the image focused at infinity',
        )
    focal = arguments.focal_length
    if focal is not None:
        return lambda q: 1.0 / (1.0 - focal * q), 'the image focused at infinity'
    return np.ones_like, 'the image at the focus of the target'


def _coefficients(path: Path) -> list[float]:
    name = 'breathing.coefficients'
    try:
        return list(SPECS[name].coerce(read_numbers(path, name)))
    except ValueError as error:
        raise UsageError(f'--breathing: {error}') from None


def _compare(arguments: argparse.Namespace, kappa: float) -> tuple[list[str], dict[str, object]]:
    """Return what the measured kappa makes of the numbers of the lens: kappa = F^2 / (A p)."""
    focal, stop, pitch = arguments.focal_length, arguments.f_number, arguments.pixel_pitch
    if pitch is None or (focal is None and stop is None):
        if focal is not None and stop is not None:
            pitch = focal**2 / (stop * kappa)
            return [
                f'lens: at {focal * 1e3:g} mm and f/{stop:g} this is a pixel pitch of '
                f'{pitch * 1e6:.3f} um'
            ], {'pixel_pitch': pitch}
        return [], {}
    if focal is None:
        focal = math.sqrt(kappa * stop * pitch)
        return [
            f'lens: at f/{stop:g} and {pitch * 1e6:g} um this is a focal length of '
            f'{focal * 1e3:.2f} mm'
        ], {'focal_length': focal}
    effective = focal**2 / (kappa * pitch)
    lines = [f'lens: at {focal * 1e3:g} mm and {pitch * 1e6:g} um this is f/{effective:.3f}']
    numbers: dict[str, object] = {'f_number': effective}
    if stop is not None:
        expected = focal**2 / (stop * pitch)
        lines[0] += f'; f/{stop:g} would make kappa {expected:.3f}, {kappa / expected - 1.0:+.1%}'
        numbers['kappa_expected'] = expected
    return lines, numbers


def _lines(result: BlurScale, where: str) -> list[str]:
    used = int(result.used.sum())
    rms = 4.0 * float(np.sqrt(np.mean(result.residuals[result.used] ** 2)))
    distance = f'{1.0 / result.focus:.3f} m' if result.focus > 1e-3 else 'infinity'
    floor = '' if math.isnan(result.floor) else f'; in focus {4.0 * result.floor:.2f} px remain'
    return [
        f'blur: kappa = {result.kappa:.4f} px per dioptre (standard error '
        f'{result.kappa_error:.4f}) of {where}, from the {result.widths.method} in {used} images',
        f'target: sharpest at {result.focus:.4f} dioptres ({distance}){floor}; residual '
        f'{rms:.3f} px of diameter (RMS)',
    ]


def _warnings(result: BlurScale, known: float | None) -> list[str]:
    if known is None or abs(result.focus - known) <= _DISAGREEMENT * max(known, 0.2):
        return []
    return [
        f'the target is sharpest at {result.focus:.3f} dioptres, but its distance says '
        f'{known:.3f}: the focus scale is off (dualfocus calibrate focus)'
    ]
