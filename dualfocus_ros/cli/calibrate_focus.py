# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate focus``: driver units to dioptres."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dualfocus_ros.calibration.focus_scale import (
    QUADRATIC_GAIN,
    FocusScale,
    SharpnessPeak,
    find_sharpness_peak,
    fit_focus_scale,
)
from dualfocus_ros.calibration.parameter_file import read_numbers
from dualfocus_ros.calibration.target_images import sharpness
from dualfocus_ros.camera.position_table import PositionTable
from dualfocus_ros.cli import focus_frames
from dualfocus_ros.cli.calibrate import CalibrationResult
from dualfocus_ros.exceptions import CalibrationError, CommandError, UsageError

WHAT_TO_RECORD = """\
what to record:
  Put a flat target with fine texture (newspaper, a printed noise pattern) square to the camera,
  filling the middle of the image, at 5 to 8 distances that are evenly spaced in 1/distance and
  span the range of use: for 0.4 to 2.5 m about 0.4, 0.5, 0.65, 0.9, 1.4, 2.5 m. Measure from the
  front of the lens, to 0.5 %. At each distance sweep the lens through the whole range, in 10 to
  30 steps, and record it: images and FocusState with lens_position (or camera_ros metadata, or
  focus_command together with --scale), or image files named by the lens position.

examples:
  dualfocus calibrate focus 0.4=near 0.65=middle 1.0=far 2.5=wall -o focus.yaml
  dualfocus calibrate focus pairs.csv          # lines of position, distance in metres

result: calibration.positions and calibration.dioptres of focus_sweep_node.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'sources',
        nargs='+',
        metavar='DISTANCE=SWEEP',
        help='distance of the target in metres (inf for the horizon) and the bag or folder of the '
        'sweep; or one text file with a position and a distance in each line',
    )
    parser.add_argument(
        '--scale',
        type=Path,
        metavar='YAML',
        help='parameter file with calibration.positions and calibration.dioptres, with which '
        'the sweeps were recorded: what was commanded or reported in dioptres is turned back '
        'into positions of the driver',
    )
    focus_frames.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Find the sharpest position at each distance and fit."""
    from dualfocus_ros.calibration.calibration_plots import focus_figure

    sweeps: list[tuple[float, SharpnessPeak]] = []
    if len(arguments.sources) == 1 and '=' not in arguments.sources[0]:
        positions, distances = _read_pairs(Path(arguments.sources[0]))
    else:
        table = _read_scale(arguments.scale)
        for source in arguments.sources:
            distance, path = _split(source)
            sweeps.append((distance, _peak(path, arguments, table)))
        distances = [distance for distance, _ in sweeps]
        positions = [peak.position for _, peak in sweeps]
    scale = fit_focus_scale(positions, distances)
    return CalibrationResult(
        {
            'calibration.positions': [float(p) for p in scale.table[0]],
            'calibration.dioptres': [float(q) for q in scale.table[1]],
        },
        _summary(scale, distances, sweeps),
        _lines(scale),
        focus_figure(scale, sweeps),
        _warnings(scale, distances),
    )


def _peak(
    path: Path, arguments: argparse.Namespace, table: tuple[list[float], list[float]] | None
) -> SharpnessPeak:
    region = focus_frames.region(arguments)
    positions, measures = [], []
    for image in focus_frames.read_frames(path, arguments, 'position'):
        position = image.position if table is None else _back(image.dioptres, table)
        if image.moving or not math.isfinite(position):
            continue
        positions.append(position)
        measures.append(sharpness(image, region))
    if len(set(positions)) == 1 and table is None:
        raise CommandError(
            f'{path}: every image has the lens position {positions[0]:g}: if the driver does not '
            'report it, record focus_command and give --scale'
        )
    try:
        return find_sharpness_peak(positions, measures)
    except CalibrationError as error:
        raise CalibrationError(f'{path}: {error}') from None


def _back(dioptres: float, table: tuple[list[float], list[float]]) -> float:
    import numpy as np

    positions, known = table
    order = np.argsort(known)
    return float(
        np.interp(
            dioptres,
            np.take(known, order),
            np.take(positions, order),
            left=math.nan,
            right=math.nan,
        )
    )


def _read_pairs(path: Path) -> tuple[list[float], list[float]]:
    try:
        lines = path.read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f'{path} is neither DISTANCE=SWEEP nor a readable text file of pairs: {error}'
        ) from None
    positions: list[float] = []
    distances: list[float] = []
    for number, line in enumerate(lines, start=1):
        words = line.split('#')[0].replace(',', ' ').replace(';', ' ').split()
        if not words:
            continue
        try:
            position, distance = (float(word) for word in words)
        except ValueError:
            if not positions and number == 1:
                continue  # names of the columns
            raise UsageError(
                f'{path}, line {number}: expected a position and a distance in metres, got '
                f'{line.strip()!r}'
            ) from None
        if not distance > 0.0:
            raise UsageError(f'{path}, line {number}: a distance must be positive, got {distance}')
        positions.append(position)
        distances.append(distance)
    return positions, distances


def _read_scale(path: Path | None) -> tuple[list[float], list[float]] | None:
    if path is None:
        return None
    try:
        positions = read_numbers(path, 'calibration.positions')
        dioptres = read_numbers(path, 'calibration.dioptres')
        PositionTable(positions, dioptres)
    except ValueError as error:
        raise UsageError(f'--scale: {error}') from None
    return positions, dioptres


def _split(source: str) -> tuple[float, Path]:
    text, separator, path = source.partition('=')
    try:
        distance = float(text)
    except ValueError:
        distance = math.nan
    if not separator or not path or not distance > 0.0:
        raise UsageError(f'expected DISTANCE=SWEEP such as 0.5=near_bag (metres), got {source!r}')
    return distance, Path(path)


def _lines(scale: FocusScale) -> list[str]:
    terms = ''.join(
        f' {c:+.6g} u{"^2" if power == 2 else ""}'
        for power, c in enumerate(scale.coefficients)
        if power
    )
    linear, quadratic = scale.left_out_rms
    why = (
        ''
        if math.isnan(quadratic)
        else (
            f'; left-out pairs are missed by {linear:.4f} by a line and by {quadratic:.4f} with u^2, '
            f'which is taken below {QUADRATIC_GAIN:.0%} of the line'
        )
    )
    return [
        f'focus: 1/s = {scale.coefficients[0]:.6g}{terms} dioptres from {len(scale.positions)} '
        f'distances, residual {scale.fit.rms:.4f} dioptres (RMS){why}',
        f'range: positions {scale.table[0][0]:g} to {scale.table[0][-1]:g}, '
        f'{scale.table[1][0]:.3f} to {scale.table[1][-1]:.3f} dioptres',
    ]


def _warnings(scale: FocusScale, distances: list[float]) -> list[str]:
    return [
        f'the pair of {distance:g} m and position {position:g} is an outlier '
        f'({residual:+.3f} dioptres) and hardly counts'
        for distance, position, residual, out in zip(
            distances, scale.positions, scale.fit.residuals, scale.fit.outliers, strict=True
        )
        if out
    ]


def _summary(
    scale: FocusScale, distances: list[float], sweeps: list[tuple[float, SharpnessPeak]]
) -> dict[str, object]:
    return {
        'coefficients': list(scale.coefficients),
        'residual_dioptres': scale.fit.rms,
        'left_out_dioptres': {'linear': scale.left_out_rms[0], 'quadratic': scale.left_out_rms[1]},
        'pairs': [
            {
                'position': float(p),
                'distance_m': d,
                'residual_dioptres': float(r),
                'outlier': bool(o),
            }
            for p, d, r, o in zip(
                scale.positions, distances, scale.fit.residuals, scale.fit.outliers, strict=True
            )
        ],
        'sweeps': [
            {
                'distance_m': d,
                'position': peak.position,
                'position_error': peak.error,
                'contrast': peak.contrast,
            }
            for d, peak in sweeps
        ],
    }
