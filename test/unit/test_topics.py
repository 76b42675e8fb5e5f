# SPDX-License-Identifier: Apache-2.0
"""The list of topics agrees with the parameters, the estimator and the message builders."""

from dataclasses import fields

import pytest

from dualfocus_ros import topics


def test_names_are_relative_and_unique():
    names = [topic.name for topic in (*topics.INPUTS, *topics.OUTPUTS)]
    assert len(set(names)) == len(names)
    assert not any(name.startswith('/') for name in names)


def test_requests_are_fields_of_the_estimator_request():
    result = pytest.importorskip('dualfocus_ros.inference.result')
    known = {field.name for field in fields(result.OutputRequest)}
    assert {topic.request for topic in topics.OUTPUTS if topic.request} <= known


def test_inputs_and_focus_sources_are_choices_of_parameters():
    parameters = pytest.importorskip('dualfocus_ros.nodes.parameters.depth_parameters')
    inputs = {topic.input for topic in topics.INPUTS if topic.input}
    assert inputs == set(parameters.SPECS['input'].choices)
    assert set(topics.FOCUS_SOURCES) == set(parameters.SPECS['focus_source'].choices)


def test_each_output_has_a_message_builder():
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    messages = pytest.importorskip('dualfocus_ros.nodes.messages.output_messages')
    names = {topic.name for topic in topics.OUTPUTS}
    assert set(messages.BUILDERS) == names - {topics.STACK_INFO.name}
