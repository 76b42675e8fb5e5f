# SPDX-License-Identifier: Apache-2.0
"""``dualfocus run NODE``: start a node of this package without the ``ros2`` command."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec

from dualfocus_ros.exceptions import CommandError

NODES = ('depth_node', 'focus_sweep_node', 'sim_camera_node')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('node', choices=NODES, metavar='NODE', help=', '.join(NODES))
    parser.epilog = (
        'What follows NODE goes to it, as with ros2 run: '
        'dualfocus run depth_node --ros-args -p device:=cpu -r image_raw:=camera/image_raw'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the node in this process until it ends; return its exit status."""
    if find_spec('rclpy') is None:
        raise CommandError(
            'ROS 2 is not in this environment: source activate.sh (or the setup file of your ROS '
            'distribution and of the workspace) first'
        )
    module = import_module(f'dualfocus_ros.nodes.{arguments.node}')
    return int(module.main(arguments.rest) or 0)
