# SPDX-License-Identifier: Apache-2.0
"""Two cameras with lenses, each with its nodes in a namespace.

ros2 launch examples/two_cameras.launch.py driver:=topic
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

CAMERAS = ('left', 'right')


def generate_launch_description() -> LaunchDescription:
    """Return dualfocus.launch.py for each camera."""
    file = Path(get_package_share_directory('dualfocus_ros')) / 'launch' / 'dualfocus.launch.py'
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'driver',
                default_value='topic',
                choices=['topic', 'camera_ros', 'v4l2', 'depthai', 'none'],
                description='Lens driver of both cameras.',
            ),
            *(
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(str(file)),
                    launch_arguments={
                        'namespace': camera,
                        # Images are /left/camera/image_raw, depth is /left/depth/image_rect.
                        'camera': f'/{camera}/camera',
                        'driver': LaunchConfiguration('driver'),
                    }.items(),
                )
                for camera in CAMERAS
            ),
        ]
    )
