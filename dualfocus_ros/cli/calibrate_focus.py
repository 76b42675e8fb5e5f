# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate focus``: driver units to dioptres."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.cli import image_arguments
from dualfocus_ros.exceptions import CalibrationError, CommandError, ConfigError, UsageError

if TYPE_CHECKING:
    from dualfocus_ros.calibration.target_images import SharpnessPeak
    from dualfocus_ros.camera.position_table import PositionTable

SUMMARY = 'units of the lens driver to dioptres, from targets at known distances'
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
        'the sweeps were recorded; converts their dioptres back to positions of the driver',
    )
    image_arguments.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Find the sharpest position at each distance and fit."""
    from dualfocus_ros.calibration.focus_scale import (
        fit_focus_scale,
        focus_scale_result,
        read_pairs,
    )

    sources: list[str] = arguments.sources
    if len(sources) == 1 and '=' not in sources[0]:
        try:
            positions, distances = read_pairs(Path(sources[0]))
        except ConfigError as error:
            raise UsageError(str(error)) from None
        return focus_scale_result(fit_focus_scale(positions, distances), distances)
    table = None if arguments.scale is None else _read_position_table(arguments.scale)
    sweeps = [
        (distance, _find_peak(path, arguments, table)) for distance, path in map(_split, sources)
    ]
    distances = [distance for distance, _ in sweeps]
    scale = fit_focus_scale([peak.position for _, peak in sweeps], distances)
    return focus_scale_result(scale, distances, sweeps)


def _read_position_table(path: Path) -> PositionTable:
    from dualfocus_ros.calibration.parameter_file import read_numbers
    from dualfocus_ros.camera.position_table import PositionTable

    try:
        return PositionTable(
            read_numbers(path, 'calibration.positions'), read_numbers(path, 'calibration.dioptres')
        )
    except ValueError as error:
        raise UsageError(f'--scale: {error}') from None


def _find_peak(
    path: Path, arguments: argparse.Namespace, table: PositionTable | None
) -> SharpnessPeak:
    from dualfocus_ros.calibration.target_images import find_sharpness_peak, sharpness

    positions, measures = [], []
    for image in image_arguments.read_images(path, arguments, 'position'):
        position = image.position if table is None else _position(image.dioptres, table)
        if image.moving or not math.isfinite(position):
            continue
        positions.append(position)
        measures.append(sharpness(image, arguments.region))
    if len(set(positions)) == 1 and table is None:
        raise CommandError(
            f'{path}: every image has the lens position {positions[0]:g}: if the driver does not '
            'report it, record focus_command and give --scale'
        )
    try:
        return find_sharpness_peak(positions, measures)
    except CalibrationError as error:
        raise CalibrationError(f'{path}: {error}') from None


def _position(dioptres: float, table: PositionTable) -> float:
    """Return the lens position at a focus; NaN beyond the table."""
    try:
        return table.position(dioptres)
    except ValueError:
        return math.nan


def _split(source: str) -> tuple[float, Path]:
    text, separator, path = source.partition('=')
    try:
        distance = float(text)
    except ValueError:
        distance = math.nan
    if not separator or not path or not distance > 0.0:
        raise UsageError(f'expected DISTANCE=SWEEP such as 0.5=near_bag (metres), got {source!r}')
    return distance, Path(path)
