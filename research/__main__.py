# SPDX-License-Identifier: Apache-2.0
"""``python -m research``: one question about the method, answered on generated or recorded data."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
import logging
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

from dualfocus_ros import __version__
from dualfocus_ros.exceptions import CommandError, UsageError

if TYPE_CHECKING:
    from dualfocus_ros.datasets.samples import Dataset
    from dualfocus_ros.evaluation.method_interface import Method
    from research.study import Study

logger = logging.getLogger(__name__)

EPILOG = """
stack-size: error against 2 to 32 planes over one range of focus. asymmetry: error against
spherical aberration, cat's eye, astigmatism, chromatic aberration, tilt and curvature, for pixels
nearer and farther than the closest plane. transfer: recorded stacks in a folder (relief_1,
relief_2, antinous, phone_table, pcb; what is not there is left out). equal-budget, ablation:
several trained files side by side with how they were trained, as ratios to DFV. All but transfer
run on generated views unless --data names others (colour with depth, see dualfocus evaluate). OUT
gets NAME.md, NAME.json and NAME.png.
"""
NAMES = ('stack-size', 'asymmetry', 'transfer', 'equal-budget', 'ablation')
GENERATED = ('shapes:0,count=6,size=256', 'indoor:0,count=6,width=320')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = EPILOG
    parser.add_argument('name', choices=NAMES, metavar='NAME', help=', '.join(NAMES))
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='OUT', help='folder')
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=[],
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
        '--sizes', type=int, nargs='+', metavar='N', help='numbers of planes of stack-size'
    )
    parser.add_argument(
        '--sweeps',
        nargs='+',
        metavar='NAME',
        help='of asymmetry: spherical cat-eye astigmatism chromatic tilt curvature (default: all)',
    )
    parser.add_argument('--limit', type=int, default=0, help='views to use of each data set')
    parser.add_argument('--seed', type=int, default=0, help='of the noise')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='on a CPU (default: all but one)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')


def execute(arguments: argparse.Namespace) -> int:
    """Run the study, write it and print its report."""
    import torch

    from dualfocus_ros.evaluation.evaluation_report import RunInfo, source_commit
    from dualfocus_ros.evaluation.methods import open_methods
    from dualfocus_ros.inference.device import default_threads, describe_device, resolve_device

    _check(arguments)
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads or default_threads())
    methods = open_methods(arguments.methods, device)
    run = _prepare(arguments, methods)
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    with tqdm(unit='estimate', desc=arguments.name, leave=False, disable=quiet or None) as bar:
        study = run(bar)
    facts = RunInfo(
        version=__version__,
        commit=source_commit(Path(__file__)),
        device=describe_device(device),
        torch=torch.__version__,
        seed=arguments.seed,
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    study.write(arguments.output, facts, methods)
    logger.info('wrote %s', arguments.output / f'{study.name}.md')
    show = study.json if arguments.json else study.markdown
    sys.stdout.write(show(facts, methods))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
    from research.asymmetry import NAMES as SWEEPS

    for option, values in (
        ('--planes', [arguments.planes or 10]),
        ('--sizes', arguments.sizes or []),
    ):
        wrong = [n for n in values if not MIN_PLANES <= n <= MAX_PLANES]
        if wrong:
            raise UsageError(
                f'{option}: a stack has {MIN_PLANES} to {MAX_PLANES} planes, got {wrong[0]}'
            )
    for sweep in arguments.sweeps or []:
        if sweep not in SWEEPS:
            raise UsageError(f"--sweeps: '{sweep}' is none of {', '.join(SWEEPS)}")
    if arguments.limit < 0:
        raise UsageError(f'--limit must not be negative, got {arguments.limit}')
    if arguments.name == 'transfer' and len(arguments.data) != 1:
        raise UsageError(
            'transfer needs --data FOLDER, once: the folder that holds recorded stacks, '
            f'got {len(arguments.data)}'
        )
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f'{arguments.output} exists and is not a folder')


def _prepare(arguments: argparse.Namespace, methods: list[Method]) -> Callable[[tqdm], Study]:
    """Open the data, so that a typing error costs no time, and return what is left to do."""
    from research import asymmetry, equal_budget, stack_size, transfer
    from research.study import join_datasets

    planes, seed = arguments.planes or 10, arguments.seed
    if arguments.name == 'transfer':
        folder = Path(arguments.data[0]).expanduser()
        return lambda bar: transfer.run(folder, methods, bar, planes=arguments.planes)
    datasets = [_views(text) for text in arguments.data or GENERATED]
    if arguments.name in ('equal-budget', 'ablation'):
        names = [method.name for method in methods]
        if arguments.baseline is not None and arguments.baseline not in names:
            raise UsageError(f"--baseline: '{arguments.baseline}' is none of {', '.join(names)}")
        return lambda bar: equal_budget.run(
            [join_datasets([data], arguments.limit) for data in datasets],
            methods,
            list(dict.fromkeys(arguments.methods)) or names,
            bar,
            planes=planes,
            baseline=arguments.baseline,
            seed=seed,
            name=arguments.name,
        )
    views = join_datasets(datasets, arguments.limit)
    if arguments.name == 'stack-size':
        sizes = sorted(set(arguments.sizes or stack_size.SIZES))
        return lambda bar: stack_size.run(views, methods, bar, sizes=sizes, seed=seed)
    sweeps = arguments.sweeps or asymmetry.NAMES
    return lambda bar: asymmetry.run(views, methods, bar, sweeps=sweeps, planes=planes, seed=seed)


def _views(text: str) -> Dataset:
    """Open a data set of colour with depth, which can be rendered in any way."""
    from dualfocus_ros.datasets.registry import open_dataset
    from dualfocus_ros.datasets.samples import RgbdSample

    data = open_dataset(text)
    if len(data) and not isinstance(data[0], RgbdSample):
        raise UsageError(
            f"--data: '{text}' holds recorded stacks; this study renders its own from colour "
            'with depth (shapes:, indoor:, nyu:, arkitscenes:, rgbd:)'
        )
    return data


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study that the command line names."""
    parser = argparse.ArgumentParser(prog='python -m research', description=__doc__)
    add_arguments(parser)
    parser.add_argument('--quiet', action='store_true', help='only warnings and errors')
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    logging.basicConfig(format='%(message)s')
    logging.getLogger().setLevel(logging.WARNING if arguments.quiet else logging.INFO)
    try:
        return execute(arguments)
    except (CommandError, ValueError, OSError) as error:
        sys.stderr.write(f'research: {error}\n')
        return 2 if isinstance(error, UsageError) else 1


if __name__ == '__main__':
    sys.exit(main())
