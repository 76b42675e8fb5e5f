# SPDX-License-Identifier: Apache-2.0
"""`dualfocus record` on a full disk: one line, and a readable bag."""

import errno
import os
import resource
import subprocess
import threading

import pytest
from rosbags.rosbag2.storage_mcap import McapWriter
from sensor_msgs.msg import Image

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.main import main
from small_bags import messages_by_topic

LIMIT = 1_000_000
IMAGE = Image(width=160, height=120, step=480, encoding='rgb8', data=bytes(160 * 120 * 3))


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


@pytest.mark.slow
def test_full_disk_ends_recording_with_one_line(listener, tmp_path):
    from ament_index_python.packages import get_package_prefix

    program = f'{get_package_prefix("dualfocus_ros")}/lib/dualfocus_ros/dualfocus'
    # Without the profile for large images, whose shared memory would not fit either.
    environment = {k: v for k, v in os.environ.items() if not k.endswith('_PROFILES_FILE')}
    bag = tmp_path / 'bag'
    process = subprocess.Popen(
        [program, 'record', str(bag), '--quiet'],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit_files,
    )
    publisher = listener.node.create_publisher(Image, '/eye/image_raw', 10)
    sent = 0
    try:
        listener.until(lambda: publisher.get_subscription_count() > 0)
        while process.poll() is None and sent < 400:
            IMAGE.header.stamp.sec = sent = sent + 1
            publisher.publish(IMAGE)
            listener.spin(0.05)
        _, errors = process.communicate(timeout=30.0)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    ours = [line for line in errors.splitlines() if 'dualfocus: error: ' in line]
    assert len(ours) == 1 and 'no room left' in ours[0] and str(bag) in ours[0], errors
    assert 'Traceback' not in errors and 'Exception ignored' not in errors
    with BagReader(bag) as reader:
        assert reader.topics['/eye/image_raw'].count > 5
    images = messages_by_topic(bag)['/eye/image_raw']
    numbers = [message.header.stamp.sec for message in images]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(len(message.data) == 160 * 120 * 3 for message in images)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_distinguishes_full_disk_from_other_errors(
    listener, tmp_path, capsys, monkeypatch, number
):
    def full(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(McapWriter, 'close_chunk', full)
    with pytest.raises(OSError, match=os.strerror(number)):
        with BagWriter(tmp_path / 'plain') as writer:
            writer.write('/a', 'sensor_msgs/msg/Image', 1, b'\0' * 100)
            writer.flush()
    publisher = listener.node.create_publisher(Image, '/eye/image_raw', 10)
    timer = listener.node.create_timer(0.1, lambda: publisher.publish(IMAGE))
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            listener.spin(0.1)

    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        assert main(['record', str(tmp_path / 'bag'), '--duration', '20', '--quiet']) == 1
    finally:
        stop.set()
        spinner.join()
        timer.cancel()
    assert f'({os.strerror(number)})' in capsys.readouterr().err
