# SPDX-License-Identifier: Apache-2.0
"""``dualfocus export``: the network as ONNX, checked against PyTorch."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
import logging
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dualfocus_ros.cli.console import echo
from dualfocus_ros.cli.model_arguments import add_model_argument
from dualfocus_ros.cli.progress import progress_bar
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES

if TYPE_CHECKING:
    from dualfocus_ros.models.onnx_export import StackShape

logger = logging.getLogger(__name__)

# What rounding may do is thousands of times less; what an error of the export does, far more.
LIMIT = 1e-3
# Rendered images are made so large and mirrored beyond: what the network looks at is smaller.
PATCH = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Only the network is exported: alignment, rectification, the correction of focus '
        'breathing and metres are not part of the graph. Inputs: images float32 (1, N, 3, H, W), '
        'sRGB in [0, 1], planes from far to near, and focus_dioptres (1, N), ascending; outputs: '
        'inverse_depth and sigma, both (1, H, W) in 1/m. Example: dualfocus export -o '
        'dualfocus.onnx --planes 5 --size 640x480'
    )
    parser.add_argument(
        '-o', '--output', required=True, type=Path, metavar='FILE.onnx', help='file to write'
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
        '--size', required=True, metavar='WxH', help='of the images in pixels, as 640x480'
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
        help=f'run both onnxruntime and PyTorch on random and on rendered images; fail above '
        f'{LIMIT:g} of the sweep (default: yes)',
    )
    parser.add_argument('--json', action='store_true', help='print the result as JSON')


def execute(arguments: argparse.Namespace) -> int:
    """Export, check and print."""
    size, output = _size(arguments), arguments.output
    if output.suffix != '.onnx' or output.is_dir():
        raise UsageError(f"--output must be a file whose name ends in .onnx, got '{output}'")
    from dualfocus_ros.models.onnx_export import export_split, export_whole, require_packages
    from dualfocus_ros.models.weights import load_model

    require_packages('onnx', 'onnxscript')
    if arguments.check:
        try:
            require_packages('onnxruntime')
        except ValueError as error:
            raise CommandError(f'{error}; or leave the check out with --no-check') from None
    model = load_model(arguments.model)
    output.parent.mkdir(parents=True, exist_ok=True)
    files = [output]
    if arguments.parts == 'split':
        files = [output.with_suffix(f'.{part}.onnx') for part in ('encoder', 'decoder')]
    logger.info(
        'exporting %s for %d planes of %d x %d', model.name, size.planes, size.width, size.height
    )
    if arguments.parts == 'split':
        export_split(model, files[0], files[1], size)
    else:
        export_whole(model, files[0], size)
    for file in files:
        logger.info('wrote %s (%.1f MB)', file, file.stat().st_size / 1e6)
    report: dict[str, Any] = {
        'model': model.name,
        'weights_sha256': model.sha256,
        **asdict(size),
        'files': [str(file) for file in files],
        'limit': LIMIT,
        'differences': None,
    }
    if arguments.check:
        report['differences'] = _check(model, files, size)
    echo(json.dumps(report, indent=2) if arguments.json else _as_text(report))
    rows = report['differences'] or []
    # Not "larger": a difference that is not a number is no agreement.
    if not all(row['largest'] <= LIMIT for row in rows):
        names = ' and '.join(map(str, files))
        raise CommandError(
            f'ONNX and PyTorch differ by more than {LIMIT:g} of the sweep; {names} kept for '
            'inspection, not for use'
        )
    return 0


def _size(arguments: argparse.Namespace) -> StackShape:
    match = re.fullmatch(r'(-?\d+)[xX×](-?\d+)', arguments.size.strip())
    if match is None:
        raise UsageError(f"--size must be WIDTHxHEIGHT, as 640x480, got '{arguments.size}'")
    width, height = int(match[1]), int(match[2])
    if width < 1 or height < 1:
        raise UsageError(f'--size must be above 0 pixels both ways, got {width} x {height}')
    if not MIN_PLANES <= arguments.planes <= MAX_PLANES:
        raise UsageError(f'--planes must be {MIN_PLANES} to {MAX_PLANES}, got {arguments.planes}')
    from dualfocus_ros.models.onnx_export import StackShape

    return StackShape(arguments.planes, height, width)


def _check(model: Any, files: list[Path], size: StackShape) -> list[dict[str, Any]]:
    """Return the differences on each kind of images; NaN where one gives no number."""
    from dualfocus_ros.models.onnx_export import compare_with_pytorch

    rows = []
    kinds = {'random': _random_stack, 'rendered': _rendered_stack}
    with progress_bar('checking', total=len(kinds)) as bar:
        for kind, make in kinds.items():
            images, focus = make(size)
            for difference in compare_with_pytorch(model, files, images, focus):
                rows.append({'images': kind, **asdict(difference)})
            bar.update()
    return rows


def _random_stack(size: StackShape) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.random((1, size.planes, 3, size.height, size.width), dtype=np.float32)
    # Neither the planes nor the spacing that the graph was traced with.
    return images, np.geomspace(0.4, 5.0, size.planes, dtype=np.float32)[None]


def _rendered_stack(size: StackShape) -> tuple[np.ndarray, np.ndarray]:
    """Return a random scene as a lens sees it: (1, N, 3, H, W) and its focus in 1/m."""
    from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
    from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
    from dualfocus_ros.simulation.random_stacks.stack_renderer import (
        RenderSettings,
        render_training_stack,
    )

    textures = TextureSource([])
    settings = RenderSettings(planes=size.planes, max_shift=0.0, wide_sweeps=0.0)
    stack = render_training_stack(
        np.random.default_rng(0), lambda rng: random_scene(rng, textures, PATCH), settings
    )
    more = [(0, max(wanted - PATCH, 0)) for wanted in (size.height, size.width)]
    images = np.pad(stack.images, [(0, 0), *more, (0, 0)], mode='symmetric')
    images = images[:, : size.height, : size.width].transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray(images, dtype=np.float32)[None] / np.float32(255.0)
    # The scene's range, 0 to 1, becomes 2 m to 0.4 m.
    return pixels, (0.5 + 2.0 * stack.focus[None]).astype(np.float32)


def _as_text(report: dict[str, Any]) -> str:
    if report['differences'] is None:
        return 'not checked'
    lines = ['difference to PyTorch, as a share of the sweep']
    lines.append(f'{"images":10}{"output":15}{"largest":>10}{"median":>10}')
    for row in report['differences']:
        lines.append(
            f'{row["images"]:10}{row["output"]:15}{row["largest"]:10.1e}{row["median"]:10.1e}'
        )
    return '\n'.join(lines)
