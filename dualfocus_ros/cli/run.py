# SPDX-License-Identifier: Apache-2.0
"""``dualfocus run NODE``: start a node of this package without the ``ros2`` command."""

from __future__ import annotations

import argparse

from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.nodes.node_runner import run_node

NODES = ('depth_node', 'focus_sweep_node', 'sim_camera_node')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('node', choices=NODES, metavar='NODE', help=', '.join(NODES))
    parser.epilog = (
        'Arguments after NODE go to the node, as with ros2 run: '
        'dualfocus run depth_node --ros-args -p device:=cpu -r image_raw:=camera/image_raw'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the node in this process until it ends; return its exit status."""
    require_ros()
    return run_node(arguments.node, arguments.rest)
