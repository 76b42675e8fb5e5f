# SPDX-License-Identifier: Apache-2.0
"""Findings of the fuzzing (test_fuzz.py)."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CompressedImage, Image

from depth_node_harness import START, image, stack_message
from dualfocus_ros.nodes.inputs import StackInput
from dualfocus_ros.nodes.messages import image_decoding, input_messages
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from dualfocus_ros.nodes.monitoring import diagnostics
from dualfocus_ros.nodes.monitoring.node_statistics import CallbackTimer
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from hostile_messages import PICTURES
from sweep_messages import MS, SweepFixture, frame, stamp

PIXELS = 4096


def reason(convert, message):
    with pytest.raises(MessageError) as caught:
        convert(message, PIXELS)
    assert len(str(caught.value)) < 1000 and '\n' not in str(caught.value)
    return caught.value.reason


def test_rejects_overlong_frame_id():
    book = 'a' * 10_000
    picture = CompressedImage(format='jpeg', data=PICTURES[0])
    stack = stack_message(START)
    whole = image(START, 1)
    for message in (whole, picture, stack):
        message.header.frame_id = book
    assert reason(image_decoding.image_to_array, whole) == 'frame_id'
    assert reason(image_decoding.compressed_to_array, picture) == 'frame_id'
    assert reason(input_messages.focal_stack_from_msg, stack) == 'frame_id'


def test_error_for_overlong_encoding_is_short():
    message = image(START, 1)
    message.encoding = 'b' * 1_000_000
    assert reason(image_decoding.image_to_array, message) == 'encoding'
    picture = CompressedImage(format='c' * 1_000_000, data=b'nothing')
    assert reason(image_decoding.compressed_to_array, picture) == 'undecodable'


@pytest.mark.fault(14)
@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_rejects_odd_width_of_yuv422(encoding):
    message = Image(width=3, height=2, step=6, encoding=encoding, data=bytes(12))
    assert reason(image_decoding.image_to_array, message) == 'odd_size'


def test_stacks_are_counted_without_subscribers():
    stage_counter, emitted = StageCounter(), []
    settings = DepthNodeSettings()
    source = StackInput(None, lambda: settings, stage_counter, emitted.append, lambda plane: None)
    source.on_stack(stack_message(START))
    bad = stack_message(START)
    bad.images[1].step = 1
    source.on_stack(bad)
    snapshot = stage_counter.snapshot()
    assert (snapshot.counts[Stage.RECEIVED], snapshot.counts[Stage.VALID]) == (2, 1)
    assert snapshot.rejected('row_step') == 1 and emitted == []


def test_reset_counts_pending_images():
    harness = SweepFixture()
    harness.add(frame(0))
    harness.assembler.reset()
    assert harness.rejected('reset') == 1


def test_format_change_counts_pending_images():
    harness = SweepFixture()
    harness.feed([frame(0), frame(1)])
    harness.add(frame(2, encoding='bgr8'))
    # No sweep was in progress, so only these two images are dropped.
    assert harness.rejected('format_changed') == 2


def test_clock_jump_counts_pending_images():
    harness = SweepFixture(window=0.5)
    harness.feed([frame(100), frame(101)])
    harness.add(frame(102, stamp_ns=stamp(0) + MS))
    assert harness.rejected('clock_jump') == 2


def test_diagnostics_show_a_reason_at_two_stages():
    stage_counter = StageCounter()
    for stage in (Stage.INFERRED, Stage.INFERRED, Stage.PUBLISHED):
        stage_counter.reject(stage, 'reset', 'reset')
    status = diagnostics.input_status(None, stage_counter.snapshot(), CallbackTimer(), None)
    values = {v.key: v.value for v in status.values}
    assert values['rejected reset'] == ('2 not inferred: reset; 1 not published: reset')
