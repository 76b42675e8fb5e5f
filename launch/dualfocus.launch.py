# SPDX-License-Identifier: Apache-2.0
"""Start the depth node for a running camera and, with a driver, the node that moves its lens.

ros2 launch dualfocus_ros dualfocus.launch.py driver:=camera_ros
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from dualfocus_ros.nodes.launch_arguments import (
    enclave_arguments,
    share_folder,
    shared_arguments,
    value_of,
)
from dualfocus_ros.nodes.lens_drivers import DRIVERS, PROFILES, TOPIC
from dualfocus_ros.topics import SWEEP_INPUTS

CONFIG = share_folder() / 'config'
NO_DRIVER = 'none'


def _defaults(attribute: str) -> str:
    """Return the defaults of the drivers, for the description of an argument."""
    values = {name: getattr(profile, attribute) for name, profile in sorted(PROFILES.items())}
    return ', '.join(f'{value} for {name}' for name, value in values.items() if value)


ARGUMENTS = [
    DeclareLaunchArgument(
        'params_file',
        default_value='',
        description='Parameters of the nodes, as a ROS parameter file; empty: the file in config/ '
        'that is named after the driver, or dualfocus.yaml without one.',
    ),
    *shared_arguments('namespace'),
    DeclareLaunchArgument(
        'camera',
        default_value='',
        description='Prefix of the topics of the camera, such as /camera for /camera/image_raw; '
        f'empty: {_defaults("image_prefix")}, else image_raw in the namespace.',
    ),
    DeclareLaunchArgument(
        'driver',
        default_value=NO_DRIVER,
        choices=[NO_DRIVER, *DRIVERS],
        description=f'How focus_sweep_node moves the lens; {TOPIC}: through focus_command (liquid '
        f'lenses); {", ".join(sorted(PROFILES))}: through the parameters of that driver; '
        f'{NO_DRIVER}: no focus_sweep_node.',
    ),
    DeclareLaunchArgument(
        'driver_node',
        default_value='',
        description='Name of the driver node; empty: that of params_file, or camera for a driver '
        'that publishes under its name (camera_ros).',
    ),
    DeclareLaunchArgument(
        'metadata',
        default_value='',
        description=f'Topic of the metadata of each frame; empty: {_defaults("metadata_topic")}, '
        'else metadata under the prefix of the camera.',
    ),
    *shared_arguments(
        'device', 'model', 'rviz', 'use_sim_time', 'large_image_transport', 'enclave'
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the DDS profile and the nodes."""
    return LaunchDescription(
        [*ARGUMENTS, *_large_image_transport(), OpaqueFunction(function=_nodes)]
    )


def _large_image_transport() -> list[Action]:
    """Set the Fast DDS profile, under the names of the variable in all distros."""
    profile = str(CONFIG / 'fastdds_large_images.xml')
    newer = EnvironmentVariable('FASTDDS_DEFAULT_PROFILES_FILE', default_value=profile)
    chosen = EnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE', default_value=newer)
    condition = IfCondition(LaunchConfiguration('large_image_transport'))
    return [
        SetEnvironmentVariable(name, chosen, condition=condition)
        for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
    ]


def _nodes(context: LaunchContext) -> list[Action]:
    """Return the nodes; a function, because only non-empty arguments override the file."""

    def value(name: str) -> str:
        return value_of(context, name)

    common = {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)}
    given = {name: value(name) for name in ('device', 'model') if value(name)}
    driver = value('driver')
    profile = PROFILES.get(driver)
    file = value('params_file') or str(
        CONFIG / ('dualfocus.yaml' if driver == NO_DRIVER else f'{driver}.yaml')
    )
    prefix = (value('camera') or (profile.image_prefix if profile else '')).rstrip('/')
    topics = {topic.name: f'{prefix}/{topic.name}' for topic in SWEEP_INPUTS} if prefix else {}
    metadata = value('metadata') or (profile.metadata_topic if profile else '')
    if metadata:
        topics['metadata'] = metadata
    remappings = list(topics.items())
    enclave = value('enclave')
    nodes: list[Action] = [
        Node(
            package='dualfocus_ros',
            executable='depth_node',
            name='dualfocus',
            namespace=value('namespace'),
            parameters=[file, common, given],
            remappings=remappings,
            ros_arguments=enclave_arguments(enclave, 'dualfocus'),
            output='screen',
        ),
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=value('namespace'),
            arguments=['-d', str(CONFIG / 'dualfocus.rviz')],
            parameters=[common],
            condition=IfCondition(LaunchConfiguration('rviz')),
        ),
    ]
    if driver != NO_DRIVER:
        driven = {'driver': driver}
        # Some drivers publish under the name of their node.
        named_by_prefix = profile is not None and profile.image_prefix == profile.node_name
        name = value('driver_node') or (prefix if named_by_prefix and value('camera') else '')
        if name:
            driven['driver_node'] = name
        nodes.append(
            Node(
                package='dualfocus_ros',
                executable='focus_sweep_node',
                name='focus_sweep',
                namespace=value('namespace'),
                parameters=[file, common, driven],
                remappings=remappings,
                ros_arguments=enclave_arguments(enclave, 'focus_sweep'),
                output='screen',
            )
        )
    return nodes
