# SPDX-License-Identifier: Apache-2.0
"""`dualfocus replay` as a process, heard by the depth node on the time of the bag."""

from collections import Counter
import json
import time

import pytest
from sensor_msgs.msg import Image

from dualfocus_ros.cli.main import main
from small_bags import PERIOD, START, wall_bag

LOOPS, SWEEPS = 20, 2


@pytest.mark.slow
@pytest.mark.fault(8)
def test_twenty_loops_give_twenty_times_the_depth(start, listener, start_command, tmp_path):
    bag = wall_bag(tmp_path / 'bag', sweeps=SWEEPS)
    node = start('depth_node', use_sim_time=True, device='cpu', threads=1)
    got = listener.collect(Image, 'depth/image_rect', 200)
    listener.until(lambda: listener.node.count_publishers('depth/image_rect') > 0)
    # Time enough, before the clock jumps back, for the depth of the last sweep.
    process, _ = start_command('replay', bag, '--loops', LOOPS, '--loop-delay', 0.3, '--wait', 30)
    listener.until(lambda: process.poll() is not None)
    listener.spin(1.0)
    assert process.returncode == 0
    assert node.stop() == 0
    assert 'Traceback' not in node.output
    stamps = Counter(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in got)
    # Nothing is lost, nothing is old, nothing comes twice.
    assert stamps == {START + n * 5 * PERIOD: LOOPS for n in range(SWEEPS)}


def test_signal_ends_replay_successfully(start_command, tmp_path):
    bag = wall_bag(tmp_path / 'bag', sweeps=1)
    process, log = start_command('replay', bag, '--loop', '--wait', 0)
    end = time.monotonic() + 60.0
    while 'playing anyway' not in log.read_text():
        assert time.monotonic() < end and process.poll() is None, log.read_text()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(20.0) == 0
    assert 'Traceback' not in log.read_text()


def test_replay_summary_as_json(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'wall', sweeps=1)
    assert (
        main(
            [
                'replay',
                str(bag),
                '--rate',
                '0',
                '--wait',
                '0.1',
                '--loops',
                '2',
                '--loop-delay',
                '0',
                '--json',
            ]
        )
        == 0
    )
    played = json.loads(capsys.readouterr().out)
    assert played == {
        'bag': str(bag),
        'messages': 30,
        'loops': 2,
        'topics': ['/camera_info', '/focus_state', '/image_raw'],
    }
