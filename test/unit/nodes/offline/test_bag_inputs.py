# SPDX-License-Identifier: Apache-2.0
"""Inputs of the depth node are found in a bag by type and namespace."""

from types import SimpleNamespace

import pytest

from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.offline.bag_inputs import TopicOptions, find_inputs, is_output_topic
from dualfocus_ros.nodes.parameters.parameter_reader import read_parameters
from dualfocus_ros.topics import OUTPUTS

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
INFO = 'sensor_msgs/msg/CameraInfo'
STATE, COMMAND = 'dualfocus_ros/msg/FocusState', 'dualfocus_ros/msg/FocusCommand'
METADATA = 'diagnostic_msgs/msg/DiagnosticArray'
STACK = 'dualfocus_ros/msg/FocalStack'
CAMERA = {'/eye/image_raw': IMAGE, '/eye/camera_info': INFO}


def find(types, options=None, **parameters):
    bag = SimpleNamespace(
        topics={name: SimpleNamespace(message_type=kind) for name, kind in types.items()}
    )
    overrides = {name.replace('__', '.'): value for name, value in parameters.items()}
    return find_inputs(bag, read_parameters((), overrides), options or TopicOptions())


def test_finds_image_calibration_and_focus():
    inputs = find({**CAMERA, '/eye/focus_state': STATE, '/eye/focus_command': COMMAND})
    assert inputs.missing == []
    assert (inputs.image, inputs.camera_info) == ('/eye/image_raw', '/eye/camera_info')
    assert inputs.remap == {
        '/image_raw': '/eye/image_raw',
        '/camera_info': '/eye/camera_info',
        '/focus_state': '/eye/focus_state',
        '/focus_command': '/eye/focus_command',
    }
    assert (inputs.settings.focus_source, inputs.settings.image_transport) == (
        'focus_state',
        'raw',
    )


@pytest.mark.parametrize(
    ('topics', 'source'),
    [
        ({'/eye/metadata': METADATA, '/diagnostics': METADATA}, 'camera_ros'),
        ({'/lens/focus_command': COMMAND}, 'command'),
        ({'/eye/metadata': METADATA, '/eye/focus_state': STATE}, 'focus_state'),
    ],
)
def test_focus_source_follows_the_topics(topics, source):
    assert find({**CAMERA, **topics}).settings.focus_source == source


def test_compressed_images_are_used_without_raw_ones():
    inputs = find({'/eye/image_raw/compressed': COMPRESSED, '/eye/focus_state': STATE})
    assert inputs.settings.image_transport == 'compressed'
    assert inputs.remap['/image_raw'] == '/eye/image_raw'
    both = find({**CAMERA, '/eye/image_raw/compressed': COMPRESSED, '/eye/focus_state': STATE})
    assert both.settings.image_transport == 'raw'


def test_camera_with_focus_is_preferred():
    inputs = find({**CAMERA, '/rear/image_raw': IMAGE, '/eye/focus_state': STATE})
    assert inputs.image == '/eye/image_raw'


def test_calibration_of_another_camera_is_not_used():
    types = {
        '/eye/image_raw': IMAGE,
        '/eye/focus_state': STATE,
        '/left/camera_info': INFO,
        '/right/camera_info': INFO,
    }
    inputs = find(types)
    assert inputs.camera_info is None
    assert inputs.remap['/camera_info'] == '/eye/camera_info'


def test_stacks_are_used_without_focus_of_single_images():
    inputs = find({'/rig/focal_stack': STACK, '/rig/camera_info': INFO})
    assert inputs.settings.input == 'stack'
    assert (inputs.image, inputs.camera_info) == ('/rig/focal_stack', '/rig/camera_info')
    assert find({'/rig/focal_stack': STACK, **CAMERA, '/f': STATE}).settings.input == 'sweep'


def test_planes_are_found_by_their_suffix():
    focus = [0.5, 1.0]
    planes = {f'/rig/plane_{n}/image_raw': IMAGE for n in range(2)}
    inputs = find(planes, input='planes', planes__focus_dioptres=focus)
    assert inputs.missing == []
    assert inputs.remap['/plane_1/image_raw'] == '/rig/plane_1/image_raw'
    missing = find({}, input='planes', planes__focus_dioptres=focus).missing
    assert len(missing) == 2 and '--remap plane_0/image_raw:=TOPIC' in missing[0]


def test_missing_inputs_are_described():
    assert 'no topic with images' in find({'/x': STATE}).missing[0]
    assert 'no focus for /eye/image_raw' in find(CAMERA).missing[0]


@pytest.mark.parametrize(
    ('types', 'options', 'text'),
    [
        ({'/a/image': IMAGE, '/b/image': IMAGE}, TopicOptions(), '--image-topic /a/image'),
        (
            {**CAMERA, '/a/f': STATE, '/b/f': STATE},
            TopicOptions(),
            '--focus-topic /a/f',
        ),
        (CAMERA, TopicOptions(image='/x'), 'no images on /x'),
        (CAMERA, TopicOptions(camera_info='/x'), f'no {INFO} on /x'),
        (CAMERA, TopicOptions(focus='/x'), 'no focus on /x'),
    ],
)
def test_ambiguous_and_unknown_topics_are_errors(types, options, text):
    with pytest.raises(UsageError) as error:
        find(types, options)
    assert text in str(error.value)


def test_outputs_are_never_inputs():
    assert all(is_output_topic(f'/eye/{topic.name}') for topic in OUTPUTS)
    inputs = find({**CAMERA, '/eye/focus_state': STATE, '/depth/image_rect': IMAGE})
    assert inputs.image == '/eye/image_raw'
