# SPDX-License-Identifier: Apache-2.0
"""Everything without hardware: simulated camera, focus sweep and depth.

ros2 launch dualfocus_ros sim.launch.py scene:=corridor rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from dualfocus_ros.nodes.security_policy import enclave_arguments
from dualfocus_ros.simulation.scenes import CAMERA_SCENES

SHARE = Path(get_package_share_directory('dualfocus_ros'))
YES_NO = ['true', 'false']
PASSED_ON = (
    'params_file',
    'namespace',
    'device',
    'model',
    'rviz',
    'use_sim_time',
    'enclave',
)

ARGUMENTS = [
    DeclareLaunchArgument(
        'scene',
        default_value='table',
        choices=list(CAMERA_SCENES),
        description='What the camera sees; target: a flat board to rehearse calibration with; '
        'rgbd: the RGB-D pair that params_file names.',
    ),
    DeclareLaunchArgument(
        'width', default_value='640', description='Width of the images, pixels.'
    ),
    DeclareLaunchArgument('height', default_value='480', description='Height of the images.'),
    DeclareLaunchArgument('rate', default_value='10.0', description='Frames per second.'),
    DeclareLaunchArgument(
        'params_file',
        default_value=str(SHARE / 'config' / 'sim.yaml'),
        description='Parameters of the three nodes, as a ROS parameter file.',
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the nodes and their topics.'
    ),
    DeclareLaunchArgument(
        'device',
        default_value='',
        description='Where to compute depth: auto, cuda, cuda:N or cpu; empty: as params_file '
        'says.',
    ),
    DeclareLaunchArgument(
        'model',
        default_value='',
        description='A shipped name or the path of a .safetensors file; empty: as params_file '
        'says.',
    ),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=YES_NO, description='Show it all in RViz.'
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='false',
        choices=YES_NO,
        description='Take the time from /clock, where something else publishes it.',
    ),
    DeclareLaunchArgument(
        'large_image_transport',
        default_value='true',
        choices=YES_NO,
        description='Give Fast DDS a shared-memory segment that images fit in. A profile that '
        'the environment names already is kept.',
    ),
    DeclareLaunchArgument(
        'enclave',
        default_value='',
        description='SROS2: the enclave of each node is its name below this, such as /perception '
        'for /perception/dualfocus; empty: none is named.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the depth and sweep nodes, and the camera."""
    passed = {name: LaunchConfiguration(name) for name in PASSED_ON}
    depth_and_sweep = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'dualfocus.launch.py')),
        launch_arguments={
            **passed,
            'large_image_transport': LaunchConfiguration('large_image_transport'),
            'camera': '',
            'driver': 'topic',
        }.items(),
    )
    # The include comes first: it sets the DDS profile for the processes that follow.
    return LaunchDescription([*ARGUMENTS, depth_and_sweep, OpaqueFunction(function=_camera)])


def _camera(context: LaunchContext) -> list[Action]:
    """Return the camera; a function, because only an enclave that was given is named."""
    enclave = LaunchConfiguration('enclave').perform(context)
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
