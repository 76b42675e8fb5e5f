# SPDX-License-Identifier: Apache-2.0
"""Record the inputs of the depth node, or inputs and outputs, with ``ros2 bag``.

ros2 launch dualfocus_ros record.launch.py bag:=my_sweeps camera:=/camera what:=inputs
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction

from dualfocus_ros.nodes.launch_arguments import (
    YES_NO,
    camera_topics,
    namespace_prefix,
    shared_arguments,
    value_of,
)
from dualfocus_ros.topics import DIAGNOSTICS, RECORDED_OUTPUTS

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Folder to create for the bag.'),
    DeclareLaunchArgument(
        'what',
        default_value='inputs',
        choices=['inputs', 'all'],
        description='inputs: the topics that the depth is computed from; all: inputs and outputs.',
    ),
    *shared_arguments('namespace'),
    DeclareLaunchArgument(
        'camera',
        default_value='',
        description='Prefix of the topics of the camera, such as /camera; empty: the namespace.',
    ),
    DeclareLaunchArgument(
        'storage',
        default_value='mcap',
        choices=['mcap', 'sqlite3'],
        description='Format of the bag.',
    ),
    DeclareLaunchArgument(
        'split_size',
        default_value='0',
        description='Start a new file after this many megabytes; 0: never.',
    ),
    DeclareLaunchArgument(
        'split_duration',
        default_value='0',
        description='Start a new file after this many seconds; 0: never.',
    ),
    DeclareLaunchArgument(
        'compress',
        default_value='false',
        choices=YES_NO,
        description='Compress every message with zstd.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the recorder."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_record)])


def _record(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return value_of(context, name)

    topics = camera_topics(context)
    if value('what') == 'all':
        base = namespace_prefix(context)
        topics += [f'{base}/{topic.name}' for topic in RECORDED_OUTPUTS] + [DIAGNOSTICS]
    command = ['ros2', 'bag', 'record', '--storage', value('storage'), '--output', value('bag')]
    if float(value('split_size')) > 0.0:
        command += ['--max-bag-size', str(round(float(value('split_size')) * 1e6))]
    if float(value('split_duration')) > 0.0:
        command += ['--max-bag-duration', str(max(1, round(float(value('split_duration')))))]
    if value('compress') == 'true':
        command += ['--compression-mode', 'message', '--compression-format', 'zstd']
    return [ExecuteProcess(cmd=[*command, *topics], output='screen', name='record')]
