# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate breathing``: image scale and centre over focus."""

from __future__ import annotations

import argparse
from pathlib import Path

from dualfocus_ros.calibration.breathing import BreathingFit, fit_breathing, measure_views
from dualfocus_ros.calibration.target_images import group_by_focus
from dualfocus_ros.cli import focus_frames
from dualfocus_ros.cli.calibrate import CalibrationResult
from dualfocus_ros.cli.progress import progress_bar

WHAT_TO_RECORD = """\
what to record:
  Put a flat target with coarse and fine texture square to the camera, filling the whole image,
  at about the middle of the focus range in dioptres (for 0 to 2.5 dioptres at 0.8 m), camera and
  target on firm stands, light without flicker. Move the lens through 7 to 12 settings that span
  the range of use, in steps, and record images and their focus: two sweeps of focus_sweep_node
  are enough. Or take one image for each setting and name the files by their dioptres
  (focus_0.00.png, focus_0.25.png, ...). The focus scale must be right before (calibrate focus).

example:
  dualfocus calibrate breathing sweeps -o breathing.yaml

result: breathing.model, breathing.coefficients and breathing.centre_drift of depth_node.
"""
_KEPT = 2  # images of each setting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='SWEEPS', help='bag, or folder of images')
    focus_frames.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Register all settings to the sharpest one and fit."""
    from dualfocus_ros.calibration.calibration_plots import breathing_figure

    centre = focus_frames.camera_centre(arguments.source, arguments)
    frames = focus_frames.read_frames(arguments.source, arguments)
    region = focus_frames.region(arguments)
    if region is not None:
        from dataclasses import replace

        frames = (replace(f, pixels=region.cut(f.pixels)) for f in frames)
        if centre is not None:
            centre = centre[0] - region.x, centre[1] - region.y
    settings = group_by_focus(frames, _KEPT)
    with progress_bar('registering', total=sum(len(group) for group in settings)) as bar:
        views, reference, width = measure_views(settings, centre, bar.update)
    result = fit_breathing(views, reference, width)
    drift = result.drift
    if region is not None:
        # Drift is in widths of the whole image.
        whole = _whole_width(arguments)
        drift = drift[0] * width / whole, drift[1] * width / whole
    return CalibrationResult(
        {
            'breathing.model': 'polynomial',
            'breathing.coefficients': list(result.coefficients),
            'breathing.centre_drift': list(drift),
        },
        _summary(result, drift),
        _lines(result),
        breathing_figure(result),
    )


def _whole_width(arguments: argparse.Namespace) -> int:
    first = next(iter(focus_frames.read_frames(arguments.source, arguments)))
    return int(first.pixels.shape[1])


def _lines(result: BreathingFit) -> list[str]:
    (g1, g2), (e1, e2) = result.coefficients, result.errors
    pixels = [result.width * d for d in result.drift]
    errors = [result.width * e for e in result.drift_errors]
    settings = sorted({view.dioptres for view in result.views})
    at = settings[-1]
    return [
        f'breathing: scale 1 {g1:+.6f} q {g2:+.7f} q^2 (standard errors {e1:.6f}, {e2:.7f}) from '
        f'{len(settings)} settings, {settings[0]:.2f} to {at:.2f} dioptres',
        f'centre: {pixels[0]:+.3f}, {pixels[1]:+.3f} pixels per dioptre (standard errors '
        f'{errors[0]:.3f}, {errors[1]:.3f})',
        f'check: each setting is predicted by the others to {result.left_out_px:.3f} pixels (RMS) '
        f'at the edge of the image, where the scale at {at:.2f} dioptres makes '
        f'{0.5 * result.width * (g1 * at + g2 * at * at):.1f}',
    ]


def _summary(result: BreathingFit, drift: tuple[float, float]) -> dict[str, object]:
    return {
        'coefficients': list(result.coefficients),
        'errors': list(result.errors),
        'covariance': result.covariance,
        'centre_drift': list(drift),
        'centre_drift_errors': list(result.drift_errors),
        'left_out_px': result.left_out_px,
        'reference_dioptres': result.reference,
        'views': [
            {
                'dioptres': v.dioptres,
                'scale': v.scale,
                'shift_px': list(v.shift),
                'residual_px': v.residual_px,
            }
            for v in result.views
        ],
    }
