# SPDX-License-Identifier: Apache-2.0
"""``dualfocus demo``: the whole path once, over DDS, and how right it is."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.simulation.scenes import SCENES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'Starts sim_camera_node, focus_sweep_node and depth_node as processes on a DDS domain of '
        'their own, and writes bag/ (MCAP), panel.png, view.html (sweeps, depth and cloud in a '
        'browser), cloud.ply, metrics.json and logs/. Ctrl-C ends the measurement early.'
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
        '--seconds', type=float, default=20.0, help='of depth, after the first one (default: 20)'
    )
    parser.add_argument('--width', type=int, default=640, help='(default: 640)')
    parser.add_argument('--height', type=int, default=480, help='(default: 480)')
    parser.add_argument('--rate', type=float, default=10.0, help='of the camera, Hz (default: 10)')
    parser.add_argument('--planes', type=int, default=8, help='of a sweep (default: 8)')
    parser.add_argument('--model', default='auto', help='a shipped name or a .safetensors file')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--start-timeout', type=float, default=120.0, metavar='S', help='for the first depth'
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')


def execute(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 if depth came out and is right."""
    if find_spec('rclpy') is None or find_spec('dualfocus_ros.msg') is None:
        raise CommandError(
            'the demo needs ROS 2 and the built package: source activate.sh (or the setup file of '
            'the workspace) first'
        )
    if not (arguments.seconds > 0.0 and arguments.rate > 0.0):
        raise UsageError('--seconds and --rate must be positive')
    if not 2 <= arguments.planes <= 32:
        raise UsageError(f'--planes must be from 2 to 32, got {arguments.planes}')
    from dualfocus_ros.demo.demo_run import run

    return run(arguments)
