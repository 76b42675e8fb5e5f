# SPDX-License-Identifier: Apache-2.0
"""Playing a bag over DDS and recording it again gives the same messages, bit by bit."""

import threading
import time

import numpy as np
import pytest

from dualfocus_ros.bags.player import BagPlayer, PlaybackSettings, TopicPublisher
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import Plane
from ros_client import RosClient
from stack_bag import write_stack_bag


@pytest.fixture
def nodes():
    player, recorder = RosClient('player'), RosClient('recorder')
    yield player.node, recorder.node, recorder.executor
    player.close()
    recorder.close()


def contents(path):
    """Return the serialised messages by topic, and the reliability that each topic offered."""
    with BagReader(path) as bag:
        messages = {name: [m.data for m in bag.messages([name])] for name in bag.topics}
        return messages, [topic.qos[0].reliability.name for topic in bag.topics.values()]


def test_played_and_recorded_bag_is_equal(tmp_path, nodes):
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CameraInfo, Image

    from dualfocus_ros.msg import FocusState

    player_node, recorder_node, executor = nodes
    camera = PinholeCamera(160, 120, 200.0, 200.0, 79.5, 59.5)
    rng = np.random.default_rng(2)
    stack = [
        Plane(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), 0.5 + n, camera=camera)
        for n in range(4)
    ]
    source = write_stack_bag(tmp_path / 'source', stack, sweeps=2, period_ns=20_000_000)
    heard = []
    topics = {'/image_raw': Image, '/camera_info': CameraInfo, '/focus_state': FocusState}
    with BagReader(source) as bag, BagWriter(tmp_path / 'copy') as copy:
        publisher = TopicPublisher(player_node, bag)
        settings = PlaybackSettings(rate=2.0)
        player = BagPlayer(bag, publisher.topics, settings, publisher.publish)
        recorder = TopicRecorder(
            recorder_node, topics, copy, lambda topic, data, stamp: heard.append((topic, data))
        )
        deadline = time.monotonic() + 20.0
        while recorder.discover() or not publisher.all_subscribed:
            assert time.monotonic() < deadline, 'the recorder and the player did not meet'
            executor.spin_once(timeout_sec=0.05)
        playing = threading.Thread(target=player.run)
        playing.start()
        while len(heard) < 24 and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
        playing.join()
        recorder.close()
    assert recorder.counts == dict.fromkeys(topics, 8)

    before, _ = contents(source)
    after, reliabilities = contents(tmp_path / 'copy')
    assert before == after
    assert set(reliabilities) == {'RELIABLE'}
    image = deserialize_message(after['/image_raw'][1], Image)
    assert bytes(image.data) == stack[1].image.tobytes()
    assert (image.header.stamp.sec, image.header.stamp.nanosec) == (1, 20_000_000)


def test_rclpy_messages_can_be_written_directly(tmp_path):
    from std_msgs.msg import String

    from dualfocus_ros.msg import FocusCommand

    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_message('/command', FocusCommand(focus_dioptres=1.5, plane_count=4), 5)
        bag.write_message('/text', String(data='hello'), 6)
    with BagReader(tmp_path / 'bag') as bag:
        command, text = (message.message for message in bag.messages())
    assert (command.focus_dioptres, command.plane_count) == (1.5, 4)
    assert text.data == 'hello'
