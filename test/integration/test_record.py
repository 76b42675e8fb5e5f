# SPDX-License-Identifier: Apache-2.0
"""`dualfocus record` as a process: live, into a bag, through `dualfocus process`, and compared."""

import signal
import time

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.cli.main import main
from small_bags import messages_by_topic, pixels

CAMERA = {'width': 160, 'height': 120, 'rate': 12.0, 'threads': 1, 'settling_time': 0.06}
SWEEP = {'count': 5, 'far_dioptres': 0.3}
DEPTHS = 4


def by_stamp(messages):
    return {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in messages}


def recorded(bag, topic):
    """Return how many messages of a topic are in a bag that is still being written."""
    try:
        with BagReader(bag) as reader:
            found = reader.topics.get(topic)
            return 0 if found is None else found.count
    except Exception:  # nothing there yet
        return 0


def wait_for(bag, topic, count, process):
    end = time.monotonic() + 60.0
    while recorded(bag, topic) < count:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.3)


def test_live_and_offline_depth_are_equal(start, start_command, tmp_path):
    start('sim_camera_node', **CAMERA)
    start('focus_sweep_node', **SWEEP)
    start('depth_node', device='cpu', threads=1)
    bag = tmp_path / 'bag'
    recorder, log = start_command('record', bag, '--outputs', '--json')
    wait_for(bag, '/depth/image_rect', DEPTHS, recorder)
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20.0) == 0
    assert 'Traceback' not in log.read_text()
    with BagReader(bag) as reader:
        assert reader.problems == []
        assert {
            '/image_raw',
            '/camera_info',
            '/focus_state',
            '/focus_command',
            '/stack_info',
            '/depth/image_rect',
            '/depth/points',
            '/diagnostics',
        } <= set(reader.topics)
        assert '/ground_truth/depth' not in reader.topics

    assert (
        main(
            [
                'process',
                str(bag),
                str(tmp_path / 'out'),
                '--quiet',
                '--points',
                '-p',
                'device:=cpu',
                '-p',
                'threads:=1',
            ]
        )
        == 0
    )
    live, offline = messages_by_topic(bag), messages_by_topic(tmp_path / 'out')
    ours = by_stamp(offline['/depth/image_rect'])
    flags = {key: info.flags for key, info in by_stamp(offline['/stack_info']).items()}
    compared = 0
    for key, info in by_stamp(live['/stack_info']).items():
        message = by_stamp(live['/depth/image_rect']).get(key)
        # The recording may have begun or ended in the middle of a sweep.
        if message is None or key not in ours or info.flags or flags[key]:
            continue
        a, b = pixels(message), pixels(ours[key])
        finite = np.isfinite(a)
        assert np.array_equal(finite, np.isfinite(b))
        assert np.allclose(a[finite], b[finite], rtol=1e-4)
        compared += 1
    assert compared >= DEPTHS - 2


@pytest.mark.slow
def test_killed_recording_is_readable(start, start_command, tmp_path):
    start('sim_camera_node', **CAMERA)
    start('focus_sweep_node', **SWEEP)
    bag = tmp_path / 'bag'
    recorder, _ = start_command('record', bag)
    wait_for(bag, '/image_raw', 12, recorder)
    recorder.kill()
    recorder.wait()
    assert not (bag / 'metadata.yaml').exists()
    with BagReader(bag) as reader:
        assert reader.topics['/image_raw'].count >= 12
    assert main(['process', str(bag), str(tmp_path / 'out'), '--quiet', '--device', 'cpu']) == 0


def test_duration_ends_recording_without_messages(start_command, listener, tmp_path):
    publisher = listener.node.create_publisher(Clock, '/eye/image_raw', 1)  # of another type
    process, log = start_command('record', tmp_path / 'bag', '--duration', '1')
    assert process.wait(30.0) == 1
    listener.node.destroy_publisher(publisher)
    text = log.read_text()
    assert 'no message arrived on any selected topic' in text and 'Traceback' not in text


@pytest.mark.slow
def test_named_topics_are_recorded_as_they_are(start_command, listener, tmp_path):
    publisher = listener.node.create_publisher(Image, '/wrist/picture', 10)
    process, _ = start_command('record', tmp_path / 'bag', '--topics', 'wrist/picture')
    listener.until(lambda: publisher.get_subscription_count() > 0)
    sent = [Image(width=n, height=1, step=n, encoding='mono8', data=bytes(n)) for n in (1, 2, 3)]
    for message in sent:
        publisher.publish(message)
    listener.spin(1.0)
    process.terminate()
    assert process.wait(20.0) == 0
    assert [m.width for m in messages_by_topic(tmp_path / 'bag')['/wrist/picture']] == [1, 2, 3]
