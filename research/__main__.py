# SPDX-License-Identifier: Apache-2.0
"""``python -m research NAME``: run a study on generated or recorded data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
import logging
from pathlib import Path
import sys

from tqdm import tqdm

from dualfocus_ros.exceptions import ConfigError, DualFocusError, UsageError
from research.study_run import NAMES, StudyConfig, run_study

logger = logging.getLogger('research')

EPILOG = """
stack-size: error against 2 to 32 planes over one focus range. asymmetry: error against spherical
aberration, cat's eye, astigmatism, chromatic aberration, tilt and curvature, for pixels nearer and
farther than the closest plane. transfer: recorded stacks in a folder (relief_1, relief_2,
antinous, phone_table, pcb; absent ones are left out). equal-budget, ablation: several trained
files with their recipes, as ratios to DFV. All but transfer run on generated views unless --data
names others (colour with depth, see dualfocus evaluate). OUT gets NAME.md, NAME.json and NAME.png.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m research', description='Run a study of the method.', epilog=EPILOG
    )
    parser.add_argument('name', choices=NAMES, metavar='NAME', help=', '.join(NAMES))
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='OUT', help='folder')
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=(),
        help='shipped models, .safetensors files, dfv:FILE, sml, rdf, range-only, single-image '
        '(default: all shipped models, sml, rdf, range-only)',
    )
    parser.add_argument(
        '--data',
        action='append',
        metavar='DATA',
        default=[],
        help='KIND:PLACE, may be repeated (default: generated views); for transfer the folder '
        'that holds the stacks',
    )
    parser.add_argument(
        '--baseline', metavar='METHOD', help='of the ratios of equal-budget (default: DFV)'
    )
    parser.add_argument(
        '--planes',
        type=int,
        default=0,
        metavar='N',
        help='planes per stack (default: 10, for transfer all)',
    )
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=(),
        metavar='N',
        help='numbers of planes of stack-size',
    )
    parser.add_argument(
        '--sweeps',
        nargs='+',
        metavar='NAME',
        default=(),
        help='of asymmetry: spherical cat-eye astigmatism chromatic tilt curvature (default: all)',
    )
    parser.add_argument('--limit', type=int, default=0, help='views to use of each data set')
    parser.add_argument('--seed', type=int, default=0, help='of the noise')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='on a CPU (default: all but one)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    parser.add_argument('--quiet', action='store_true', help='only warnings and errors')
    return parser


def execute(arguments: argparse.Namespace) -> None:
    """Run the study, write it and print its report."""
    output: Path = arguments.output
    if output.exists() and not output.is_dir():
        raise UsageError(f'{output} exists and is not a folder')
    try:
        options = {field.name: getattr(arguments, field.name) for field in fields(StudyConfig)}
        config = StudyConfig(**options)
        hidden = True if arguments.quiet else None
        with tqdm(unit='estimate', desc=config.name, leave=False, disable=hidden) as bar:
            report = run_study(config, bar)
    except ConfigError as error:
        raise UsageError(f'--{error}') from None
    report.write(output)
    logger.info('wrote %s', output / f'{config.name}.md')
    sys.stdout.write(report.json() if arguments.json else report.markdown())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its status: 0 done, 1 failed, 2 wrong usage."""
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    logging.basicConfig(format='%(message)s')
    logging.getLogger().setLevel(logging.WARNING if arguments.quiet else logging.INFO)
    try:
        execute(arguments)
    except (DualFocusError, ValueError, OSError) as error:
        sys.stderr.write(f'research: {error}\n')
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
