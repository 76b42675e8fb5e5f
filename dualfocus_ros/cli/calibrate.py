# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate``: what a lens does, measured, as parameter files for the nodes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_ros.calibration.parameter_file import Value, write_parameters
from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import CalibrationError, CommandError, UsageError

logger = logging.getLogger(__name__)

KINDS = {
    'focus': 'units of the lens driver to dioptres, from targets at known distances',
    'breathing': 'how the image scale and its centre follow the focus',
    'settling': 'latency, settling time and hysteresis of the lens',
    'lens': 'kappa: pixels of blur per dioptre out of focus',
    'field': 'field curvature: the bow of the surface that the lens focuses on',
}


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What a calibration found.

    :param parameters: for the nodes.
    :param summary: everything, for JSON.
    :param lines: what a person wants to read.
    :param picture: (H, W, 3) uint8 RGB.
    """

    parameters: Mapping[str, Value]
    summary: dict[str, Any]
    lines: list[str]
    picture: np.ndarray
    warnings: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the calibrations."""
    parser.epilog = (
        'Each writes a parameter file that the nodes take with --params-file and a picture of the '
        'fit, and refuses data that cannot determine what is asked for (exit status 1, no file). '
        'dualfocus calibrate KIND --help says what to record; docs/calibration.md shows how to '
        'rehearse all of it with the simulated camera.'
    )
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    for name, summary in KINDS.items():
        module = import_module(f'dualfocus_ros.cli.calibrate_{name}')
        sub = kinds.add_parser(
            name,
            help=summary,
            description=f'{summary[0].upper()}{summary[1:]}.',
            epilog=module.WHAT_TO_RECORD,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.add_argument(
            '-o',
            '--output',
            type=Path,
            default=Path(f'{name}.yaml'),
            metavar='YAML',
            help=f'parameter file to write (default: {name}.yaml)',
        )
        sub.add_argument(
            '--picture',
            type=Path,
            metavar='PNG',
            help='picture of the fit and its residuals (default: as the parameter file, .png)',
        )
        sub.add_argument('--json', action='store_true', help='print the result as JSON')
        for flag in ('--quiet', '--debug'):
            sub.add_argument(
                flag, action='store_true', default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        sub.set_defaults(calibrate=module.calibrate)


def execute(arguments: argparse.Namespace) -> int:
    """Calibrate, write and print; 1 where the data cannot determine the model."""
    output: Path = arguments.output
    picture: Path = arguments.picture or output.with_suffix('.png')
    if output.suffix.lower() not in ('.yaml', '.yml') or picture.suffix.lower() != '.png':
        raise UsageError(
            f'a parameter file ends in .yaml and a picture in .png, got {output} and {picture}'
        )
    try:
        outcome: CalibrationResult = arguments.calibrate(arguments)
    except CalibrationError as error:
        raise CommandError(f'calibrate {arguments.kind}: {error}') from error
    from dualfocus_ros.io.png import save_png

    for path in (output, picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    title = f'Written by dualfocus calibrate {arguments.kind}. Nodes take it with --params-file.'
    write_parameters(output, outcome.parameters, [title, *outcome.lines])
    save_png(picture, outcome.picture)
    for warning in outcome.warnings:
        logger.warning('%s', warning)
    if arguments.json:
        summary = {
            'kind': arguments.kind,
            'output': str(output),
            'picture': str(picture),
            'parameters': outcome.parameters,
            **outcome.summary,
            'warnings': outcome.warnings,
        }
        echo(json.dumps(_plain(summary), indent=2))
    else:
        echo('\n'.join(outcome.lines))
        for name, value in outcome.parameters.items():
            echo(f'  {name}: {_shown(value)}')
        echo(f'wrote {output} and {picture}')
    return 0


def _plain(value: Any) -> Any:
    """Return what JSON can hold: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _shown(value: Value) -> str:
    if isinstance(value, list | tuple):
        return '[' + ', '.join(f'{number:.6g}' for number in value) + ']'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
