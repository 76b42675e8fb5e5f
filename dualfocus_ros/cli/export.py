# SPDX-License-Identifier: Apache-2.0
"""``dualfocus export``: write the network as ONNX and compare it with PyTorch."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import logging
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any

from dualfocus_ros.cli.arguments import add_json_argument, add_model_argument
from dualfocus_ros.cli.console import echo, echo_json, progress_bar
from dualfocus_ros.exceptions import CommandError, ExportError, UsageError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES

if TYPE_CHECKING:
    from dualfocus_ros.models.onnx_export import ExportShape

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Exports the network only: the graph has no alignment, rectification, correction of focus '
        'breathing or metric depth. Inputs: images float32 (1, N, 3, H, W), sRGB in [0, 1], '
        'planes from far to near, and focus_dioptres (1, N), ascending; outputs: inverse_depth '
        'and sigma, both (1, H, W) in 1/m. Example: dualfocus export -o dualfocus.onnx --planes 5 '
        '--size 640x480'
    )
    parser.add_argument(
        '-o', '--output', required=True, type=Path, metavar='FILE.onnx', help='output file'
    )
    add_model_argument(parser)
    parser.add_argument(
        '--planes',
        required=True,
        type=int,
        metavar='N',
        help=f'planes of a stack, {MIN_PLANES} to {MAX_PLANES}',
    )
    parser.add_argument(
        '--size', required=True, metavar='WxH', help='image size in pixels, such as 640x480'
    )
    parser.add_argument(
        '--parts',
        choices=('whole', 'split'),
        default='whole',
        help='split: FILE.encoder.onnx, run once per plane, and FILE.decoder.onnx, once per stack '
        '(default: whole)',
    )
    parser.add_argument(
        '--check',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='compare onnxruntime with PyTorch on random and on rendered images, and fail if they '
        'differ (default: yes)',
    )
    add_json_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Export, compare and print."""
    size, output = _size(arguments), arguments.output
    if output.suffix != '.onnx' or output.is_dir():
        raise UsageError(f"--output must be a file whose name ends in .onnx, got '{output}'")
    from dualfocus_ros.evaluation.onnx_check import MAX_DIFFERENCE, check_onnx
    from dualfocus_ros.models.onnx_export import export_split, export_whole, require_packages
    from dualfocus_ros.models.weights import load_model

    require_packages('onnx', 'onnxscript')
    if arguments.check:
        try:
            require_packages('onnxruntime')
        except ExportError as error:
            raise CommandError(f'{error}; or skip the check with --no-check') from None
    model = load_model(arguments.model)
    output.parent.mkdir(parents=True, exist_ok=True)
    logger.info(
        'exporting %s for %d planes of %d x %d', model.name, size.planes, size.width, size.height
    )
    if arguments.parts == 'split':
        files = [output.with_suffix(f'.{part}.onnx') for part in ('encoder', 'decoder')]
        export_split(model, files[0], files[1], size)
    else:
        files = [output]
        export_whole(model, output, size)
    for file in files:
        logger.info('wrote %s (%.1f MB)', file, file.stat().st_size / 1e6)
    report: dict[str, Any] = {
        'model': model.name,
        'weights_sha256': model.sha256,
        **asdict(size),
        'files': [str(file) for file in files],
        'limit': MAX_DIFFERENCE,
        'differences': None,
    }
    differences = []
    if arguments.check:
        with progress_bar('checking', total=2, unit='stack') as bar:
            differences = check_onnx(model, files, size, bar.update)
        report['differences'] = [
            {'images': stack.images, **asdict(output)}
            for stack in differences
            for output in stack.outputs
        ]
    if arguments.json:
        echo_json(report)
    else:
        echo(_as_text(report))
    if not all(stack.is_small for stack in differences):
        names = ' and '.join(map(str, files))
        raise CommandError(
            f'ONNX and PyTorch differ by more than {MAX_DIFFERENCE:g} of the sweep; {names} kept '
            'for inspection, not for use'
        )
    return 0


def _size(arguments: argparse.Namespace) -> ExportShape:
    match = re.fullmatch(r'(-?\d+)[xX×](-?\d+)', arguments.size.strip())
    if match is None:
        raise UsageError(f"--size must be WIDTHxHEIGHT, such as 640x480, got '{arguments.size}'")
    width, height = int(match[1]), int(match[2])
    if width < 1 or height < 1:
        raise UsageError(f'--size must be positive in pixels, got {width} x {height}')
    if not MIN_PLANES <= arguments.planes <= MAX_PLANES:
        raise UsageError(f'--planes must be {MIN_PLANES} to {MAX_PLANES}, got {arguments.planes}')
    from dualfocus_ros.models.onnx_export import ExportShape

    return ExportShape(arguments.planes, height, width)


def _as_text(report: dict[str, Any]) -> str:
    """Return the table of differences."""
    if report['differences'] is None:
        return 'not checked'
    lines = ['difference to PyTorch, as a share of the sweep']
    lines.append(f'{"images":10}{"output":15}{"largest":>10}{"median":>10}')
    for row in report['differences']:
        lines.append(
            f'{row["images"]:10}{row["output"]:15}{row["largest"]:10.1e}{row["median"]:10.1e}'
        )
    return '\n'.join(lines)
