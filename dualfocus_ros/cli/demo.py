# SPDX-License-Identifier: Apache-2.0
"""``dualfocus demo``: simulated camera, sweep and depth over DDS, compared with ground truth."""

from __future__ import annotations

import argparse
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from dualfocus_ros.cli.arguments import (
    add_device_argument,
    add_json_argument,
    add_model_argument,
    add_number,
    positive,
)
from dualfocus_ros.cli.console import echo, echo_json
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
    for flag, metavar, default, kind, text in (
        ('--seconds', 'S', 20.0, positive, 'duration of the measurement after the first depth'),
        ('--width', 'PX', 640, int, 'in pixels'),
        ('--height', 'PX', 480, int, 'in pixels'),
        ('--rate', 'HZ', 10.0, positive, 'camera images per second'),
        ('--planes', 'N', 8, int, 'planes per sweep'),
        ('--start-timeout', 'S', 120.0, float, 'seconds to wait for the first depth'),
    ):
        add_number(parser, flag, metavar, default, text, kind)
    add_model_argument(parser)
    add_device_argument(parser)
    add_json_argument(parser)


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
    from dualfocus_ros.demo.demo_run import DemoSettings, run_demo

    names = (field.name for field in fields(DemoSettings))
    settings = DemoSettings(**{name: getattr(arguments, name) for name in names})
    metrics, problems = run_demo(settings)
    if arguments.json:
        echo_json(metrics)
    else:
        echo(format_summary(metrics, settings.scene))
        echo(
            f'written to      {settings.output}: bag, panel.png, view.html, cloud.ply, '
            'metrics.json, logs'
        )
    if problems:
        raise CommandError('; '.join(problems))
    return 0
