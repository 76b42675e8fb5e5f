# SPDX-License-Identifier: Apache-2.0
"""Serialised messages with impossible sizes over DDS: only these messages are lost."""

import pytest
from rclpy.serialization import serialize_message

from depth_node_harness import MS, START, camera_info, image, stamps_of
from dualfocus_ros.msg import FocusState

HOSTILE = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def with_hostile_sizes(message):
    """Yield the serialised message with each of its words in turn too large, and cut off."""
    data = bytes(serialize_message(message))
    for at in range(4, min(len(data), 80), 4):
        for word in HOSTILE:
            yield data[:at] + word.to_bytes(4, 'little') + data[at + 4 :]
    for length in (4, 5, 20, len(data) // 2, len(data) - 4):
        yield data[:length]


@pytest.mark.fault(13)
def test_impossible_sizes_cost_only_their_message(harness):
    messages = {
        'image_raw': image(START, 1),
        'camera_info': camera_info(START, 50.0),
        'focus_state': FocusState(header=image(START, 1).header, focus_dioptres=1.0),
    }
    sent = 0
    for topic, message in messages.items():
        for data in with_hostile_sizes(message):
            harness.publish(topic, data)
            sent += 1
            harness.executor.spin_once(timeout_sec=0.0)
    assert sent > 150
    harness.spin(0.5)
    assert harness.state == 'active' and harness.worker.restarts == 0
    # A stamp of chance may have been from the future: the clock is then set back.
    stamps = []
    for number in (1, 2, 3):
        stamps += harness.sweep(start=START + number * 1000 * MS, sweep=number)[-1:]
    harness.until(lambda: stamps[-1] in stamps_of(harness.received['depth/image_rect']))
    counts = harness.counts().counts
    stages = {stage.value: count for stage, count in counts.items()}
    assert stages['received'] < sent + 9
