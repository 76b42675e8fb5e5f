# SPDX-License-Identifier: Apache-2.0
"""Play the inputs of a bag with its clock, and compute depth from them.

ros2 launch dualfocus_ros replay.launch.py bag:=my_sweeps loop:=true rviz:=true
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction

from dualfocus_ros.nodes.launch_arguments import (
    YES_NO,
    camera_topics,
    include_dualfocus,
    share_folder,
    shared_arguments,
    value_of,
)

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
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed relative to the recording.'
    ),
    DeclareLaunchArgument(
        'loop', default_value='false', choices=YES_NO, description='Repeat the bag at its end.'
    ),
    DeclareLaunchArgument(
        'start_offset', default_value='0.0', description='Skip this many seconds at the start.'
    ),
    DeclareLaunchArgument(
        'paused',
        default_value='false',
        choices=YES_NO,
        description='Start with the playback paused.',
    ),
    DeclareLaunchArgument(
        'params_file',
        default_value=str(share_folder() / 'config' / 'dualfocus.yaml'),
        description='Parameters of the depth node, as a ROS parameter file.',
    ),
    DeclareLaunchArgument(
        'camera',
        default_value='',
        description='Prefix of the topics of the camera in the bag, such as /camera.',
    ),
    *shared_arguments('namespace', 'device', 'model', 'rviz', 'large_image_transport'),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the depth node with the clock of the bag, and the player."""
    depth = include_dualfocus(PASSED_ON, {'use_sim_time': 'true', 'driver': 'none'})
    return LaunchDescription([*ARGUMENTS, depth, OpaqueFunction(function=_play)])


def _play(context: LaunchContext) -> list[Action]:
    """Return the player of the inputs; recorded outputs would mix with the new ones."""

    def value(name: str) -> str:
        return value_of(context, name)

    command = ['ros2', 'bag', 'play', value('bag'), '--clock', '--rate', value('rate')]
    if value('loop') == 'true':
        command.append('--loop')
    if float(value('start_offset')) > 0.0:
        command += ['--start-offset', value('start_offset')]
    if value('paused') == 'true':
        command.append('--start-paused')
    command += ['--topics', *camera_topics(context)]
    return [ExecuteProcess(cmd=command, output='screen', name='play')]
