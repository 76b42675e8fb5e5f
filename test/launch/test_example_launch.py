# SPDX-License-Identifier: Apache-2.0
"""The launch file in examples/, loaded by launch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('launch_ros', reason='needs launch_ros, which only a ROS distribution has')

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node

FILE = Path(__file__).parents[2] / 'examples' / 'two_cameras.launch.py'


def test_two_cameras_in_two_namespaces_launch():
    context = LaunchContext()
    context.launch_configurations['driver'] = 'topic'
    description = get_launch_description_from_python_launch_file(str(FILE))
    (own,) = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert own.name == 'driver' and 'topic' in own.choices
    found = set()
    for include in description.entities:
        if not isinstance(include, IncludeLaunchDescription):
            continue
        for action in include.execute(context):
            action.visit(context)
        included = include.launch_description_source.get_launch_description(context)
        for argument in included.get_launch_arguments():
            if argument.name not in context.launch_configurations:
                argument.execute(context)
        for function in included.entities:
            if isinstance(function, OpaqueFunction):
                for node in function.execute(context) or []:
                    if isinstance(node, Node) and node.condition is None:
                        node._perform_substitutions(context)
                        found.add(node.node_name)
    assert found == {
        f'/{camera}/{node}'
        for camera in ('left', 'right')
        for node in ('dualfocus', 'focus_sweep')
    }
