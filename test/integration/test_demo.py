# SPDX-License-Identifier: Apache-2.0
"""`dualfocus demo`: depth over DDS that is right, every file, no process left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
import pytest

from dualfocus_ros.bags.reader import BagReader

SMALL = ['--width', '320', '--height', '240', '--planes', '5', '--device', 'cpu']
COMMAND = [sys.executable, '-m', 'dualfocus_ros.cli.main', 'demo']


def test_demo_measures_depth_and_writes_every_file(tmp_path):
    out = tmp_path / 'demo'
    done = subprocess.run(
        [*COMMAND, '-o', str(out), '--seconds', '3', *SMALL, '--json'],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    figures = json.loads(done.stdout)
    assert figures == json.loads((out / 'metrics.json').read_text())
    assert figures['depths'] >= 1 and figures['compared'] >= 1
    assert figures['abs_rel'] < 0.10
    assert figures['delta1'] > 0.85
    assert figures['valid'] > 0.9
    assert 0.0 < figures['latency_ms']['p50'] <= figures['latency_ms']['max']
    assert set(figures['exit_status'].values()) == {0}
    assert cv2.imread(str(out / 'panel.png')).shape[1] == 1600
    page = (out / 'view.html').read_text('utf-8')
    assert page.startswith('<!DOCTYPE html>') and 'dualfocus demo: table' in page
    assert (out / 'cloud.ply').read_bytes().startswith(b'ply\nformat binary_little_endian 1.0\n')
    with BagReader(out / 'bag') as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
        depth = next(bag.messages(['/depth/image_rect'])).message
    assert counts['/depth/image_rect'] >= figures['depths']  # it also has those of the start
    assert counts['/ground_truth/depth'] >= figures['compared']
    assert (
        counts['/image_raw'] >= 5 and counts['/stack_info'] >= 1 and counts['/depth/points'] >= 1
    )
    assert (depth.encoding, depth.width, depth.height) == ('32FC1', 320, 240)
    assert not list(tmp_path.glob('.demo*')), 'the folder in the making is gone'


def processes_of(session: str) -> list[int]:
    """Return the processes of this user whose environment has the mark."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if session.encode() in (folder / 'environ').read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
@pytest.mark.parametrize('measuring', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_demo_and_all_its_nodes(tmp_path, measuring):
    out = tmp_path / 'demo'
    mark = f'DUALFOCUS_TEST_MARK={os.getpid()}-{measuring}'
    environment = {**os.environ, **dict([mark.split('=')])}
    log = tmp_path / 'log'
    with log.open('w') as file:
        demo = subprocess.Popen(
            [*COMMAND, '-o', str(out), '--seconds', '100', *SMALL],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    wanted = 'first depth' if measuring else 'started'
    deadline = time.monotonic() + 120.0
    while wanted not in log.read_text():
        assert demo.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    time.sleep(1.5)
    demo.send_signal(signal.SIGINT)
    status = demo.wait(60)
    text = log.read_text()
    assert 'Traceback' not in text
    assert processes_of(mark) == []
    assert not list(tmp_path.glob('.demo*'))
    if measuring:  # measurements until then count
        assert status == 0, text
        assert json.loads((out / 'metrics.json').read_text())['depths'] >= 1
    else:
        assert status == 130 and 'interrupted' in text
        assert not out.exists()
