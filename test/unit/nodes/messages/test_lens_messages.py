# SPDX-License-Identifier: Apache-2.0
"""Parsing of messages about the lens."""

import math

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from dualfocus_ros.camera.lens_state import LensState
from dualfocus_ros.msg import FocusCommand, FocusState
from dualfocus_ros.nodes.messages.lens_messages import (
    frame_metadata,
    lens_position,
    lens_reading_from_msg,
    plane_target_from_msg,
)
from dualfocus_ros.stamps import to_stamp


def metadata_message(values, name=''):
    """Return a message with one status."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticArray(status=[DiagnosticStatus(name=name, values=pairs)])


def test_reading_has_all_fields_of_focus_state():
    message = FocusState(
        focus_dioptres=1.5, state=FocusState.SETTLED, sweep_id=7, plane_index=2, plane_count=5
    )
    message.header.stamp = to_stamp(5_000_000_001)
    found = lens_reading_from_msg(message)
    assert (found.stamp_ns, found.dioptres, found.state) == (
        5_000_000_001,
        1.5,
        LensState.SETTLED,
    )
    assert found.plane_id == (found.sweep_id, found.plane_index, found.plane_count) == (7, 2, 5)


def test_state_of_a_newer_release_is_unknown():
    assert lens_reading_from_msg(FocusState(state=200)).state == LensState.UNKNOWN


def test_target_without_stamp_takes_the_given_time():
    assert plane_target_from_msg(FocusCommand(focus_dioptres=2.0), 42).stamp_ns == 42


def test_target_has_all_fields_of_focus_command():
    message = FocusCommand(focus_dioptres=2.0, sweep_id=3, plane_index=1, plane_count=4)
    message.header.stamp = to_stamp(7)
    found = plane_target_from_msg(message, 42)
    assert (found.dioptres, found.plane_id, found.stamp_ns) == (2.0, (3, 1, 4), 7)


def test_named_statuses_are_no_frame_metadata():
    assert frame_metadata(metadata_message({'LensPosition': '1'}, name='other: node')) == {}
    assert frame_metadata(metadata_message({'AfState': '0'})) == {'AfState': '0'}


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({'AfState': '0', 'LensPosition': '1.25'}, 1.25),
        ({'LensPosition': ' 0.0 '}, 0.0),
        ({'ExposureTime': '10000'}, None),
        ({}, None),
    ],
)
def test_lens_position_of_libcamera_metadata(values, expected):
    assert lens_position(values) == expected


def test_lens_position_that_is_not_a_number_is_nan():
    assert math.isnan(lens_position({'LensPosition': 'n/a'}))
