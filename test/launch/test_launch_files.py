# SPDX-License-Identifier: Apache-2.0
"""Arguments, nodes and commands of the launch files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

# Not `launch` itself: a folder of that name would satisfy the import.
pytest.importorskip('launch_ros', reason='needs launch_ros, which only a ROS distribution has')

from launch import LaunchContext
from launch.actions import ExecuteProcess, OpaqueFunction
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node

FOLDER = Path(__file__).parents[2] / 'launch'
ARGUMENTS = {
    'dualfocus': {
        'params_file',
        'namespace',
        'camera',
        'driver',
        'device',
        'model',
        'rviz',
        'use_sim_time',
        'large_image_transport',
        'driver_node',
        'metadata',
        'enclave',
    },
    'sim': {
        'scene',
        'namespace',
        'device',
        'model',
        'rviz',
        'use_sim_time',
        'params_file',
        'enclave',
    },
    'record': {'bag', 'what', 'camera', 'namespace'},
    'replay': {'bag', 'loop', 'rate', 'camera', 'namespace', 'params_file', 'rviz'},
}


def load(name: str):
    return get_launch_description_from_python_launch_file(str(FOLDER / f'{name}.launch.py'))


def actions(name: str, **configurations: str) -> list:
    """Return the actions of the OpaqueFunctions of a launch file with these arguments."""
    context = LaunchContext()
    description = load(name)
    for argument in description.get_launch_arguments():
        if argument.name in configurations:
            context.launch_configurations[argument.name] = configurations[argument.name]
        elif argument.default_value is not None:
            text = ''.join(part.perform(context) for part in argument.default_value)
            context.launch_configurations[argument.name] = text
    functions = [e for e in description.entities if isinstance(e, OpaqueFunction)]
    return [action for function in functions for action in function.execute(context) or []]


def command(action: ExecuteProcess) -> list[str]:
    context = LaunchContext()
    return [''.join(part.perform(context) for part in word) for word in action.cmd]


@pytest.mark.parametrize('name', ARGUMENTS)
def test_launch_arguments_are_described(name):
    arguments = {a.name: a for a in load(name).get_launch_arguments()}
    assert ARGUMENTS[name] <= arguments.keys()
    for argument in arguments.values():
        assert len(argument.description) > 15, argument.name
        assert argument.description.rstrip(')').endswith('.') or argument.choices, argument.name
    for switch in {'rviz', 'use_sim_time', 'loop', 'large_image_transport'} & arguments.keys():
        assert arguments[switch].choices == ['true', 'false']


def texts(node: Node) -> list[str]:
    """Return all texts in the parameters, files and remappings of a node."""
    context, found = LaunchContext(), []

    def collect(thing) -> None:
        if isinstance(thing, str):
            found.append(thing)
        elif hasattr(thing, 'perform'):
            found.append(thing.perform(context))
        elif isinstance(thing, dict):
            collect([*thing.keys(), *thing.values()])
        elif hasattr(thing, 'param_file'):
            collect(thing.param_file)
        elif isinstance(thing, list | tuple):
            # A text is a list of substitutions.
            if thing and all(hasattr(part, 'perform') for part in thing):
                found.append(''.join(part.perform(context) for part in thing))
            else:
                for part in thing:
                    collect(part)

    collect([node._Node__parameters, node._Node__remappings])
    return found


def executables(found: list) -> list[str]:
    return [a.node_executable for a in found if isinstance(a, Node) and a.condition is None]


def test_sweep_node_starts_on_request_only():
    assert executables(actions('dualfocus')) == ['depth_node']
    for driver in ('topic', 'camera_ros', 'v4l2', 'depthai'):
        found = executables(actions('dualfocus', driver=driver))
        assert found == ['depth_node', 'focus_sweep_node']


@pytest.mark.parametrize('driver', ['none', 'topic', 'camera_ros', 'v4l2', 'depthai'])
def test_each_driver_has_its_parameters_and_topics(driver):
    nodes = [a for a in actions('dualfocus', driver=driver) if isinstance(a, Node)]
    file = 'dualfocus' if driver == 'none' else driver
    for node in nodes:
        if node.condition is None:
            assert any(f'{file}.yaml' in text for text in texts(node))
    words = texts(nodes[0])
    assert ('/diagnostics' in words) == (driver == 'camera_ros')
    assert ('camera/image_raw' in words) == (driver == 'camera_ros')
    assert ('oak/rgb/camera_info' in words) == (driver == 'depthai')


def test_arguments_override_defaults():
    found = [
        a
        for a in actions(
            'dualfocus',
            driver='camera_ros',
            camera='/left',
            metadata='/left/metadata',
            params_file='my.yaml',
        )
        if isinstance(a, Node)
    ]
    # Parameters are kept as YAML documents.
    sweep = {text.removesuffix('\n...\n') for text in texts(found[-1])}
    assert {'/left/image_raw', '/left/focus_command', '/left/metadata', '/left'} <= sweep
    assert any('my.yaml' in text for text in sweep)
    assert not any('camera_ros.yaml' in text for text in sweep)


def enclaves(found: list) -> dict[str, list[str]]:
    """Return the ROS arguments about enclaves by executable."""
    return {
        a.node_executable: [str(word) for word in a._Node__ros_arguments or []]
        for a in found
        if isinstance(a, Node) and a.condition is None
    }


@pytest.mark.parametrize('prefix', ['/perception', 'perception/'])
def test_nodes_enter_enclaves_on_request_only(prefix):
    found = enclaves(actions('dualfocus', driver='topic', enclave=prefix))
    found |= enclaves(actions('sim', enclave=prefix))
    assert found == {
        'depth_node': ['--enclave', '/perception/dualfocus'],
        'focus_sweep_node': ['--enclave', '/perception/focus_sweep'],
        'sim_camera_node': ['--enclave', '/perception/sim_camera'],
    }
    policy = ElementTree.parse(FOLDER.parent / 'config' / 'security_policy.xml')
    assert {words[1] for words in found.values()} == {
        enclave.get('path') for enclave in policy.iter('enclave')
    }
    for name in ('dualfocus', 'sim'):
        assert not any(enclaves(actions(name)).values())


def test_records_inputs_or_all():
    (inputs,) = actions('record', bag='out', camera='/cam', namespace='robot')
    words = command(inputs)
    assert words[:7] == ['ros2', 'bag', 'record', '--storage', 'mcap', '--output', 'out']
    assert '/cam/image_raw' in words and '/cam/focus_state' in words
    assert not any('depth' in word for word in words)
    (everything,) = actions('record', bag='out', camera='cam', namespace='robot', what='all')
    words = command(everything)
    assert {'/robot/cam/image_raw', '/robot/depth/image_rect', '/diagnostics'} <= set(words)
    assert not {'--max-bag-size', '--max-bag-duration', '--compression-mode'} & set(words)


def test_record_splits_and_compresses_on_request():
    (split,) = actions('record', bag='out', split_size='1.5', split_duration='60', compress='true')
    words = command(split)
    assert words[words.index('--max-bag-size') + 1] == '1500000'
    assert words[words.index('--max-bag-duration') + 1] == '60'
    assert words[words.index('--compression-mode') + 1] == 'message'


def test_replay_plays_inputs_on_bag_clock():
    (play,) = actions('replay', bag='in', loop='true', rate='2.0')
    words = command(play)
    assert words[:6] == ['ros2', 'bag', 'play', 'in', '--clock', '--rate']
    assert '--loop' in words and '/image_raw' in words
    assert not any('depth' in word for word in words)
    (play,) = actions('replay', bag='in')
    assert not {'--loop', '--start-offset', '--start-paused'} & set(command(play))
    (play,) = actions('replay', bag='in', start_offset='2.5', paused='true')
    assert {'--start-offset', '2.5', '--start-paused'} <= set(command(play))
