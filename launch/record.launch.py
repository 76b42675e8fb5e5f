# SPDX-License-Identifier: Apache-2.0
"""Records what the depth node takes, or that and what it makes, with ``ros2 bag``.

ros2 launch dualfocus_ros record.launch.py bag:=my_sweeps camera:=/camera what:=inputs
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from dualfocus_ros.topics import DIAGNOSTICS, RECORDED_OUTPUTS, SWEEP_INPUTS

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Folder to create for the bag.'),
    DeclareLaunchArgument(
        'what',
        default_value='inputs',
        choices=['inputs', 'all'],
        description='inputs: what depth can be computed from again; all: the outputs as well.',
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the depth node.'
    ),
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
        'split_size', default_value='0', description='Begin a new file after so many megabytes.'
    ),
    DeclareLaunchArgument(
        'split_duration', default_value='0', description='Begin a new file after so many seconds.'
    ),
    DeclareLaunchArgument(
        'compress',
        default_value='false',
        choices=['true', 'false'],
        description='Compress every message with zstd.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the recorder."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_record)])


def _record(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace = value('namespace').strip('/')
    base = f'/{namespace}' if namespace else ''
    camera = value('camera').rstrip('/')
    if not camera.startswith('/'):
        camera = f'{base}/{camera}' if camera else base
    topics = [f'{camera}/{topic.name}' for topic in SWEEP_INPUTS]
    if value('what') == 'all':
        topics += [f'{base}/{topic.name}' for topic in RECORDED_OUTPUTS] + [DIAGNOSTICS]
    command = ['ros2', 'bag', 'record', '--storage', value('storage'), '--output', value('bag')]
    if float(value('split_size')) > 0.0:
        command += ['--max-bag-size', str(round(float(value('split_size')) * 1e6))]
    if float(value('split_duration')) > 0.0:
        command += ['--max-bag-duration', str(max(1, round(float(value('split_duration')))))]
    if value('compress') == 'true':
        command += ['--compression-mode', 'message', '--compression-format', 'zstd']
    return [ExecuteProcess(cmd=[*command, *topics], output='screen', name='record')]
