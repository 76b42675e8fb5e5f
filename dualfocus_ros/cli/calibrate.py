# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate``: calibrate a lens; write parameter files for the nodes.

A calibration NAME is a module in ``dualfocus_ros/calibration`` and ``calibrate_NAME`` here, with
``SUMMARY``, ``WHAT_TO_RECORD``, ``add_arguments(parser)`` and
``calibrate(arguments) -> CalibrationResult``.
"""

from __future__ import annotations

import argparse
from importlib import import_module
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualfocus_ros.cli.arguments import add_json_argument
from dualfocus_ros.cli.console import echo, echo_json
from dualfocus_ros.exceptions import CalibrationError, CommandError, UsageError

if TYPE_CHECKING:
    from dualfocus_ros.calibration.parameter_file import CalibrationResult, Value

logger = logging.getLogger(__name__)

CALIBRATIONS = ('focus', 'breathing', 'settling', 'lens', 'field')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the calibrations."""
    parser.epilog = (
        'Each writes a parameter file that the nodes take with --params-file and a figure of the '
        'fit, and refuses data that do not determine the result (exit status 1, no file). '
        'dualfocus calibrate KIND --help says what to record; docs/calibration.md shows how to '
        'rehearse all of it with the simulated camera.'
    )
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    for name in CALIBRATIONS:
        module = import_module(f'dualfocus_ros.cli.calibrate_{name}')
        sub = kinds.add_parser(
            name,
            help=module.SUMMARY,
            description=f'{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.',
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
            help='figure of the fit and its residuals (default: as the parameter file, .png)',
        )
        add_json_argument(sub)
        for flag in ('--quiet', '--debug'):
            sub.add_argument(
                flag, action='store_true', default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        sub.set_defaults(calibrate=module.calibrate)


def execute(arguments: argparse.Namespace) -> int:
    """Calibrate, write and print.

    :raises CommandError: for data that do not determine the result.
    """
    from dualfocus_ros.calibration.parameter_file import write_parameters
    from dualfocus_ros.io.image_files import save_png

    output: Path = arguments.output
    picture: Path = arguments.picture or output.with_suffix('.png')
    if output.suffix.lower() not in ('.yaml', '.yml') or picture.suffix.lower() != '.png':
        raise UsageError(
            f'--output must end in .yaml and --picture in .png, got {output} and {picture}'
        )
    try:
        result: CalibrationResult = arguments.calibrate(arguments)
    except CalibrationError as error:
        raise CommandError(f'calibrate {arguments.kind}: {error}') from error
    title = f'Written by dualfocus calibrate {arguments.kind}, for --params-file of the nodes.'
    for path in (output, picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_parameters(output, result.parameters, [title, *result.lines])
    save_png(picture, result.figure)
    for warning in result.warnings:
        logger.warning('%s', warning)
    if arguments.json:
        content = {
            'kind': arguments.kind,
            'output': str(output),
            'picture': str(picture),
            'parameters': result.parameters,
            **result.summary,
            'warnings': list(result.warnings),
        }
        echo_json(_plain(content))
    else:
        echo('\n'.join(result.lines))
        for name, value in result.parameters.items():
            echo(f'  {name}: {_format_value(value)}')
        echo(f'wrote {output} and {picture}')
    return 0


def _plain(value: Any) -> Any:
    """Return values for JSON; NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _format_value(value: Value) -> str:
    if isinstance(value, list | tuple):
        return '[' + ', '.join(f'{number:.6g}' for number in value) + ']'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
