# SPDX-License-Identifier: Apache-2.0
"""Plays the inputs of a bag on its own clock, and computes depth from them.

ros2 launch dualfocus_ros replay.launch.py bag:=my_sweeps loop:=true rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from dualfocus_ros.topics import SWEEP_INPUTS

SHARE = Path(get_package_share_directory('dualfocus_ros'))
YES_NO = ['true', 'false']
PASSED_ON = (
    'params_file',
    'namespace',
    'camera',
    'device',
    'model',
    'rviz',
    'large_image_transport',
)

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Folder of the bag.'),
    DeclareLaunchArgument('rate', default_value='1.0', description='Times faster than recorded.'),
    DeclareLaunchArgument(
        'loop', default_value='false', choices=YES_NO, description='Begin anew at the end.'
    ),
    DeclareLaunchArgument(
        'start_offset', default_value='0.0', description='Leave out the first seconds.'
    ),
    DeclareLaunchArgument(
        'paused', default_value='false', choices=YES_NO, description='Begin with a pause.'
    ),
    DeclareLaunchArgument(
        'params_file',
        default_value=str(SHARE / 'config' / 'dualfocus.yaml'),
        description='Parameters of the depth node, as a ROS parameter file.',
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the depth node.'
    ),
    DeclareLaunchArgument(
        'camera',
        default_value='',
        description='Prefix of the topics of the camera in the bag, such as /camera.',
    ),
    DeclareLaunchArgument(
        'device', default_value='', description='auto, cuda, cuda:N or cpu; empty: params_file.'
    ),
    DeclareLaunchArgument(
        'model', default_value='', description='Name or file of the weights; empty: params_file.'
    ),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=YES_NO, description='Show it all in RViz.'
    ),
    DeclareLaunchArgument(
        'large_image_transport',
        default_value='true',
        choices=YES_NO,
        description='Give Fast DDS a shared-memory segment that images fit in.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the depth node on the bag's clock, and the player."""
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'dualfocus.launch.py')),
        launch_arguments={
            **{name: LaunchConfiguration(name) for name in PASSED_ON},
            'use_sim_time': 'true',
            'driver': 'none',
        }.items(),
    )
    return LaunchDescription([*ARGUMENTS, depth, OpaqueFunction(function=_play)])


def _play(context: LaunchContext) -> list[Action]:
    """Return the player of the inputs; outputs in the bag would mix with those computed now."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace = value('namespace').strip('/')
    base = f'/{namespace}' if namespace else ''
    camera = value('camera').rstrip('/')
    if not camera.startswith('/'):
        camera = f'{base}/{camera}' if camera else base
    command = ['ros2', 'bag', 'play', value('bag'), '--clock', '--rate', value('rate')]
    if value('loop') == 'true':
        command.append('--loop')
    if float(value('start_offset')) > 0.0:
        command += ['--start-offset', value('start_offset')]
    if value('paused') == 'true':
        command.append('--start-paused')
    topics = [f'{camera}/{topic.name}' for topic in SWEEP_INPUTS]
    return [ExecuteProcess(cmd=[*command, '--topics', *topics], output='screen', name='play')]
