# SPDX-License-Identifier: Apache-2.0
"""Arguments, paths and includes that the launch files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from dualfocus_ros.topics import SWEEP_INPUTS

YES_NO = ['true', 'false']
_SHARED: dict[str, dict[str, Any]] = {
    'namespace': {'default_value': '', 'description': 'Namespace of the nodes and their topics.'},
    'device': {
        'default_value': '',
        'description': 'Device of the network: auto, cuda, cuda:N or cpu; empty: that of '
        'params_file.',
    },
    'model': {
        'default_value': '',
        'description': 'A shipped name or the path of a .safetensors file; empty: that of '
        'params_file.',
    },
    'rviz': {
        'default_value': 'false',
        'choices': YES_NO,
        'description': 'Start RViz with config/dualfocus.rviz.',
    },
    'use_sim_time': {
        'default_value': 'false',
        'choices': YES_NO,
        'description': 'Take the time from /clock, as with a simulator or a bag.',
    },
    'large_image_transport': {
        'default_value': 'true',
        'choices': YES_NO,
        'description': 'Give Fast DDS a shared-memory segment that holds whole images. A profile '
        'named in the environment has priority.',
    },
    'enclave': {
        'default_value': '',
        'description': 'SROS2: prefix of the enclaves, such as /perception for '
        '/perception/dualfocus; empty: no enclaves.',
    },
}


def share_folder() -> Path:
    """Return the installed folder with ``config/`` and ``launch/``."""
    return Path(get_package_share_directory('dualfocus_ros'))


def shared_arguments(*names: str) -> list[DeclareLaunchArgument]:
    return [DeclareLaunchArgument(name, **_SHARED[name]) for name in names]


def value_of(context: LaunchContext, name: str) -> str:
    return LaunchConfiguration(name).perform(context)


def enclave_arguments(prefix: str, name: str) -> list[str]:
    """Return the ROS arguments that put a node into its enclave; none without a prefix."""
    return ['--enclave', f'/{prefix.strip("/")}/{name}'] if prefix else []


def include_dualfocus(
    passed_on: tuple[str, ...], arguments: dict[str, str]
) -> IncludeLaunchDescription:
    """Return the include of ``dualfocus.launch.py``.

    :param passed_on: arguments that keep their name and value.
    :param arguments: values of other arguments.
    """
    file = share_folder() / 'launch' / 'dualfocus.launch.py'
    passed = {name: LaunchConfiguration(name) for name in passed_on}
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(file)), launch_arguments={**passed, **arguments}.items()
    )


def namespace_prefix(context: LaunchContext) -> str:
    """Return the argument ``namespace`` as a prefix of absolute topic names."""
    namespace = value_of(context, 'namespace').strip('/')
    return f'/{namespace}' if namespace else ''


def camera_topics(context: LaunchContext) -> list[str]:
    """Return the absolute names of the topics of the camera.

    The argument ``camera`` is their prefix, relative to ``namespace`` unless it starts with ``/``.
    """
    base = namespace_prefix(context)
    camera = value_of(context, 'camera').rstrip('/')
    if not camera.startswith('/'):
        camera = f'{base}/{camera}' if camera else base
    return [f'{camera}/{topic.name}' for topic in SWEEP_INPUTS]
