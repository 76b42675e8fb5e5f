# SPDX-License-Identifier: Apache-2.0
"""``dualfocus evaluate``: methods side by side on data sets, with every condition stated."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
import logging
from pathlib import Path
import sys

from tqdm import tqdm

from dualfocus_ros import __version__
from dualfocus_ros.io.atomic_files import write_text

logger = logging.getLogger(__name__)

EPILOG = """
Data: synthetic:SEED, shapes:SEED and indoor:SEED need no download. On disk: nyu:FOLDER (BTS
export) or nyu:FILE.mat, ddff12:FILE.h5, fod500:FOLDER, arkitscenes:FOLDER, middlebury-fs:FOLDER,
rgbd:FOLDER (colour and depth), stack:FOLDER (one focal stack; options unit= focus= truth=
truth-scale= crop= border= align= plane=). Options follow the place:
stack:DIR,unit=slices,truth=z.npy,border=15.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = EPILOG
    parser.add_argument(
        '--data',
        action='append',
        metavar='KIND:PLACE',
        default=[],
        help='data set; may be repeated (default: synthetic:0 and indoor:0)',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=[],
        help='shipped models, .safetensors files, sml, rdf, dfv:FILE, range-only, single-image '
        '(default: all shipped models, sml, rdf, range-only)',
    )
    parser.add_argument(
        '--baseline',
        metavar='METHOD',
        help='also print the errors of the others over those of this method',
    )
    parser.add_argument(
        '--protocol',
        choices=('A', 'B'),
        default='B',
        help='stacks from RGB-D sets: A as published, focus taken from the truth of each image; '
        'B one focus list and one lens for all (default)',
    )
    parser.add_argument(
        '--planes',
        type=int,
        default=0,
        help='planes per stack (default: 5 for A, 10 for B, all of recorded stacks)',
    )
    parser.add_argument('--limit', type=int, default=0, help='stacks per data set (default: all)')
    parser.add_argument('--seed', type=int, default=0, help='of the noise of protocol B')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='on a CPU (default: all but one)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        metavar='FOLDER',
        help='write report.md, report.json and figures',
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measure, print the report and, if asked, write it with figures."""
    import torch

    from dualfocus_ros.datasets.registry import open_dataset
    from dualfocus_ros.evaluation.evaluation_plots import write_figures
    from dualfocus_ros.evaluation.evaluation_report import (
        RunInfo,
        as_json,
        as_markdown,
        source_commit,
    )
    from dualfocus_ros.evaluation.evaluator import evaluate
    from dualfocus_ros.evaluation.methods import open_methods
    from dualfocus_ros.evaluation.protocols import make_protocol
    from dualfocus_ros.exceptions import UsageError
    from dualfocus_ros.inference.device import default_threads, describe_device, resolve_device

    if arguments.planes == 1 or arguments.planes < 0:
        raise UsageError(f'--planes: depth from focus needs at least 2, got {arguments.planes}')
    if arguments.limit < 0:
        raise UsageError(f'--limit must not be negative, got {arguments.limit}')
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads or default_threads())
    # Everything is opened before anything is measured: a typing error costs no hour.
    datasets = [open_dataset(text) for text in arguments.data or ('synthetic:0', 'indoor:0')]
    protocol = make_protocol(arguments.protocol, arguments.planes, arguments.seed)
    methods = open_methods(arguments.methods, device, protocol)
    names = [method.name for method in methods]
    if arguments.baseline is not None and arguments.baseline not in names:
        raise UsageError(f"--baseline: '{arguments.baseline}' is none of {', '.join(names)}")
    sizes = [min(arguments.limit or len(d), len(d)) for d in datasets]
    results = []
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    with tqdm(
        total=sum(sizes) * len(methods), unit='estimate', leave=False, disable=quiet or None
    ) as bar:
        for dataset in datasets:
            bar.set_description(dataset.name)
            results.append(
                evaluate(
                    dataset,
                    methods,
                    protocol,
                    planes=arguments.planes,
                    limit=arguments.limit,
                    progress=bar.update,
                )
            )
    facts = RunInfo(
        version=__version__,
        commit=source_commit(Path(__file__)),
        device=describe_device(device),
        torch=torch.__version__,
        seed=arguments.seed,
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    figures: dict[str, list[str]] = {}
    json_text = as_json(facts, methods, results)
    if arguments.output is not None:
        folder: Path = arguments.output
        folder.mkdir(parents=True, exist_ok=True)
        figures = {r.dataset.name: write_figures(folder, r) for r in results}
        write_text(folder / 'report.json', json_text)
    markdown = as_markdown(facts, methods, results, figures, arguments.baseline)
    if arguments.output is not None:
        write_text(folder / 'report.md', markdown)
        logger.info('wrote %s', folder / 'report.md')
    sys.stdout.write(json_text if arguments.json else markdown)
    return 0
