# SPDX-License-Identifier: Apache-2.0
"""Bags of several files, and what is left of one that nobody closed."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest
from rosbags.highlevel import AnyReader
import yaml

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.split_writer import SplitBagWriter
from small_bags import PERIOD, wall_bag

IMAGE_BYTES = 96 * 64 * 3


def messages(path):
    with BagReader(path) as bag:
        assert bag.problems == []
        return [(m.topic, m.stamp_ns, m.data) for m in bag.messages()]


def split(source, target, **options):
    with BagReader(source) as bag, SplitBagWriter(target, **options) as out:
        for topic in bag.topics.values():
            out.add_topic(topic.name, topic.message_type, topic.qos)
        for m in bag.messages():
            out.write(m.topic, m.message_type, m.stamp_ns, m.data)
    return out


@pytest.mark.parametrize(
    ('options', 'files'),
    [
        ({}, 1),
        ({'max_bytes': 6 * IMAGE_BYTES}, 3),
        ({'max_ns': 6 * PERIOD, 'compress': True}, 3),
    ],
)
def test_splits_hold_together_what_was_written(tmp_path, options, files):
    source = wall_bag(tmp_path / 'in')
    out = split(source, tmp_path / 'out', **options)
    assert out.files == files
    assert out.counts == dict.fromkeys(('/image_raw', '/camera_info', '/focus_state'), 15)
    names = [f'out_{n}.mcap' for n in range(files)]
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == ['metadata.yaml', *names]
    assert messages(tmp_path / 'out') == messages(source)
    # The library's own reader checks more of the metadata than ours.
    with AnyReader([tmp_path / 'out'], default_typestore=typestore()) as reader:
        assert reader.message_count == 45
        assert reader.duration == 14 * PERIOD + 1
        assert [s for _, s, _ in reader.messages()] == [s for _, s, _ in messages(source)]
    information = yaml.safe_load((tmp_path / 'out/metadata.yaml').read_text())
    information = information['rosbag2_bagfile_information']
    assert information['relative_file_paths'] == names
    assert sum(file['message_count'] for file in information['files']) == 45
    assert [t['message_count'] for t in information['topics_with_message_count']] == [15, 15, 15]


def test_a_bag_of_nothing_can_be_read(tmp_path):
    with SplitBagWriter(tmp_path / 'out'):
        pass
    assert messages(tmp_path / 'out') == []


CRASH = """
import sys, time
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.split_writer import SplitBagWriter
with BagReader(sys.argv[1]) as bag, SplitBagWriter(sys.argv[2], max_bytes=5 * 18432) as out:
    for n, m in enumerate(bag.messages()):
        out.write(m.topic, m.message_type, m.stamp_ns, m.data)
        if n == 40:
            out.flush()
print('written', flush=True)
with BagReader(sys.argv[1]) as bag, SplitBagWriter(sys.argv[3], max_bytes=5 * 18432) as out:
    for n, m in enumerate(bag.messages()):
        out.write(m.topic, m.message_type, m.stamp_ns, m.data)
        if n == 40:
            out.flush()
            print('flushed', flush=True)
            time.sleep(60)
"""


def test_after_a_crash_everything_up_to_the_last_flush_is_there(tmp_path):
    source = wall_bag(tmp_path / 'in')
    process = subprocess.Popen(
        [sys.executable, '-c', CRASH, source, tmp_path / 'whole', tmp_path / 'cut'],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ.copy(),
    )
    assert process.stdout.readline() == 'written\n'
    assert process.stdout.readline() == 'flushed\n'
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert messages(tmp_path / 'whole') == messages(source)
    with BagReader(tmp_path / 'cut') as bag:
        assert len(bag.problems) == 2  # no metadata, and the last file has no end
        got = [(m.topic, m.stamp_ns, m.data) for m in bag.messages()]
    assert got == messages(source)[:41]
