# SPDX-License-Identifier: Apache-2.0
"""Writing of bags: round trips, metadata, compression, crashes."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.focal_stack import Plane
from small_bags import wall_bag
from stack_bag import CAMERA, make_header, random_planes, write_stack_bag


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_round_trip_of_messages(tmp_path, storage):
    store = typestore()
    header = make_header(store, 12_345_678_901, 'camera')
    state = store.types['dualfocus_ros/msg/FocusState'](header, 1.25, 0.5, -7, 2, 9, 3, 5)
    info = store.types['dualfocus_ros/msg/StackInfo'](
        header=header,
        stamps=[header.stamp, header.stamp],
        focus_dioptres=np.array([0.5, 2.0], np.float32),
        sweep_id=3,
        flags=9,
        sweep_duration=0.5,
        assemble_ms=1.0,
        inference_ms=2.0,
        publish_ms=3.0,
        latency_ms=4.0,
        model='small',
        device='cpu',
    )
    path = tmp_path / 'bag'
    with BagWriter(path, storage=storage) as bag:
        bag.write_message('/focus_state', state, 20)
        bag.write_message('/stack_info', info, 10)
    with BagReader(path) as bag:
        first, second = bag.messages()
        assert (bag.start_ns, bag.end_ns) == (10, 20)
    assert [first.topic, second.topic] == ['/stack_info', '/focus_state']  # by stamp
    assert first.message.stamps[1].nanosec == 345_678_901
    assert list(first.message.focus_dioptres) == [0.5, 2.0]
    assert (first.message.flags, first.message.model) == (9, 'small')
    assert second.message.focus_dioptres == 1.25
    assert (second.message.lens_position, second.message.plane_count) == (-7, 5)
    assert second.message.header.stamp.sec == 12


def test_metadata_matches_ros2_bag(tmp_path):
    path = write_stack_bag(tmp_path / 'bag', random_planes())
    info = yaml.safe_load((path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert info['storage_identifier'] == 'mcap'
    assert info['version'] == 8  # read by Humble to Lyrical
    assert info['relative_file_paths'] == ['bag.mcap']
    assert (path / 'bag.mcap').is_file()
    assert info['message_count'] == 9
    assert info['duration']['nanoseconds'] == 200_000_000
    assert info['starting_time']['nanoseconds_since_epoch'] == 1_000_000_000
    topics = {t['topic_metadata']['name']: t for t in info['topics_with_message_count']}
    state = topics['/focus_state']['topic_metadata']
    assert state['type'] == 'dualfocus_ros/msg/FocusState'
    assert state['serialization_format'] == 'cdr'
    assert state['type_description_hash'].startswith('RIHS01_')
    (qos,) = yaml.safe_load(state['offered_qos_profiles'])
    assert (qos['reliability'], qos['durability'], qos['depth']) == (1, 2, 10)


def test_compressed_bag_is_smaller_and_equal(tmp_path):
    flat = Plane(np.zeros((48, 64, 3), np.uint8), 1.0, camera=CAMERA)
    plain = write_stack_bag(tmp_path / 'plain', [flat, flat])
    with BagReader(plain) as source, BagWriter(tmp_path / 'small', compress=True) as target:
        for message in source.messages():
            target.write(message.topic, message.message_type, message.stamp_ns, message.data)
    size = {name: (tmp_path / name / f'{name}.mcap').stat().st_size for name in ('plain', 'small')}
    assert size['small'] < size['plain'] / 2
    with BagReader(plain) as one, BagReader(tmp_path / 'small') as two:
        pairs = list(zip(one.messages(), two.messages(), strict=True))
    assert len(pairs) == 6
    assert all((a.topic, a.stamp_ns, a.data) == (b.topic, b.stamp_ns, b.data) for a, b in pairs)


def test_refuses_existing_paths_and_unknown_types(tmp_path):
    path = wall_bag(tmp_path / 'bag')
    with pytest.raises(FileExistsError, match='exists already'):
        BagWriter(path)
    with BagWriter(tmp_path / 'other') as bag:
        bag.add_topic('/a', 'sensor_msgs/msg/Image')
        with pytest.raises(ValueError, match='is a topic of sensor_msgs/msg/Image'):
            bag.add_topic('/a', 'sensor_msgs/msg/CameraInfo')
        with pytest.raises(ValueError, match='some_msgs/msg/Unknown of /b is unknown'):
            bag.add_topic('/b', 'some_msgs/msg/Unknown')


def test_empty_bag_can_be_read(tmp_path):
    with BagWriter(tmp_path / 'out'):
        pass
    with BagReader(tmp_path / 'out') as bag:
        assert bag.problems == []
        assert list(bag.messages()) == []


CRASH = """
import sys, time
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
with BagReader(sys.argv[1]) as bag, BagWriter(sys.argv[2]) as out:
    for n, m in enumerate(bag.messages()):
        out.write(m.topic, m.message_type, m.stamp_ns, m.data)
        if n == 40:
            out.flush()
            print('flushed', flush=True)
            time.sleep(60)
"""


def test_crash_leaves_everything_up_to_the_last_flush(tmp_path):
    source = wall_bag(tmp_path / 'in')
    process = subprocess.Popen(
        [sys.executable, '-c', CRASH, source, tmp_path / 'cut'],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ.copy(),
    )
    assert process.stdout.readline() == 'flushed\n'
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with BagReader(source) as bag:
        expected = [(m.topic, m.stamp_ns, m.data) for m in bag.messages()]
    with BagReader(tmp_path / 'cut') as bag:
        assert len(bag.problems) == 2  # no metadata, and a file without an end
        got = [(m.topic, m.stamp_ns, m.data) for m in bag.messages()]
    assert got == expected[:41]
