# SPDX-License-Identifier: Apache-2.0
"""Start a simulated camera, the focus sweep and the depth node; no hardware needed.

ros2 launch dualfocus_ros sim.launch.py scene:=corridor rviz:=true
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from dualfocus_ros.nodes.launch_arguments import (
    enclave_arguments,
    include_dualfocus,
    share_folder,
    shared_arguments,
    value_of,
)
from dualfocus_ros.simulation.scenes import CAMERA_SCENES

PASSED_ON = (
    'params_file',
    'namespace',
    'device',
    'model',
    'rviz',
    'use_sim_time',
    'large_image_transport',
    'enclave',
)

ARGUMENTS = [
    DeclareLaunchArgument(
        'scene',
        default_value='table',
        choices=list(CAMERA_SCENES),
        description='Scene of the camera; target: a flat board to practise calibration; rgbd: '
        'the RGB-D pair of params_file.',
    ),
    DeclareLaunchArgument(
        'width', default_value='640', description='Width of the images, pixels.'
    ),
    DeclareLaunchArgument('height', default_value='480', description='Height of the images.'),
    DeclareLaunchArgument('rate', default_value='10.0', description='Frames per second.'),
    DeclareLaunchArgument(
        'params_file',
        default_value=str(share_folder() / 'config' / 'sim.yaml'),
        description='Parameters of the three nodes, as a ROS parameter file.',
    ),
    *shared_arguments(
        'namespace',
        'device',
        'model',
        'rviz',
        'use_sim_time',
        'large_image_transport',
        'enclave',
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the depth and sweep nodes, and the camera."""
    depth_and_sweep = include_dualfocus(PASSED_ON, {'camera': '', 'driver': 'topic'})
    # The include first: it sets the DDS profile of the processes that follow.
    return LaunchDescription([*ARGUMENTS, depth_and_sweep, OpaqueFunction(function=_camera)])


def _camera(context: LaunchContext) -> list[Action]:
    """Return the camera; a function, because only a non-empty enclave is passed."""
    enclave = value_of(context, 'enclave')
    return [
        Node(
            package='dualfocus_ros',
            executable='sim_camera_node',
            name='sim_camera',
            namespace=LaunchConfiguration('namespace'),
            parameters=[
                LaunchConfiguration('params_file'),
                {
                    'scene': LaunchConfiguration('scene'),
                    'width': ParameterValue(LaunchConfiguration('width'), value_type=int),
                    'height': ParameterValue(LaunchConfiguration('height'), value_type=int),
                    'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float),
                    'use_sim_time': ParameterValue(
                        LaunchConfiguration('use_sim_time'), value_type=bool
                    ),
                },
            ],
            ros_arguments=enclave_arguments(enclave, 'sim_camera'),
            output='screen',
        )
    ]
