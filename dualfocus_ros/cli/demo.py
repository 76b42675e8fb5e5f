# SPDX-License-Identifier: Apache-2.0
"""``dualfocus demo``: simulated camera, sweep and depth over DDS, compared with ground truth."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
import json
from pathlib import Path

from dualfocus_ros.cli.argument_types import positive
from dualfocus_ros.cli.console import echo
from dualfocus_ros.cli.model_arguments import add_device_argument
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.simulation.scenes import SCENES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Starts sim_camera_node, focus_sweep_node and depth_node on a separate DDS domain, and '
        'writes bag/ (MCAP), panel.png, view.html (sweeps, depth and cloud in a browser), '
        'cloud.ply, metrics.json and logs/. Ctrl-C ends the measurement early.'
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('demo'), metavar='DIR', help='(default: demo)'
    )
    parser.add_argument(
        '--scene',
        choices=SCENES,
        default='table',
        help='; '.join(f'{name}: {scene.description}' for name, scene in SCENES.items())
        + ' (default: table)',
    )
    parser.add_argument(
        '--seconds',
        type=positive,
        default=20.0,
        help='duration of the measurement after the first depth (default: 20)',
    )
    parser.add_argument('--width', type=int, default=640, help='in pixels (default: 640)')
    parser.add_argument('--height', type=int, default=480, help='in pixels (default: 480)')
    parser.add_argument(
        '--rate', type=positive, default=10.0, help='camera images per second (default: 10)'
    )
    parser.add_argument('--planes', type=int, default=8, help='planes per sweep (default: 8)')
    parser.add_argument('--model', default='auto', help='shipped name or a .safetensors file')
    add_device_argument(parser)
    parser.add_argument(
        '--start-timeout',
        type=float,
        default=120.0,
        metavar='S',
        help='seconds to wait for the first depth (default: 120)',
    )
    parser.add_argument('--json', action='store_true', help='print the metrics as JSON')


def execute(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 if depth arrived and its error is within the limit."""
    if find_spec('rclpy') is None or find_spec('dualfocus_ros.msg') is None:
        raise CommandError(
            'the demo needs ROS 2 and the built package: source activate.sh (or the setup file of '
            'the workspace) first'
        )
    if not 2 <= arguments.planes <= 32:
        raise UsageError(f'--planes must be from 2 to 32, got {arguments.planes}')
    from dualfocus_ros.demo.demo_report import format_summary
    from dualfocus_ros.demo.demo_run import run_demo
    from dualfocus_ros.demo.demo_settings import DemoSettings

    settings = DemoSettings(
        output=arguments.output,
        scene=arguments.scene,
        seconds=arguments.seconds,
        width=arguments.width,
        height=arguments.height,
        rate=arguments.rate,
        planes=arguments.planes,
        model=arguments.model,
        device=arguments.device,
        start_timeout=arguments.start_timeout,
    )
    metrics, problems = run_demo(settings)
    if arguments.json:
        echo(json.dumps(metrics, indent=2))
    else:
        echo(format_summary(metrics, settings.scene))
        echo(
            f'written to      {settings.output}: bag, panel.png, view.html, cloud.ply, '
            'metrics.json, logs'
        )
    if problems:
        raise CommandError('; '.join(problems))
    return 0
