# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view`` of bags: computed and recorded sweeps, refused arguments."""

import json
from pathlib import Path
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from dualfocus_ros.cli.main import main
from small_bags import FOCUS, START, messages_by_topic, pixels, wall_bag
from sweep_pages import depth_of

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built package: source its setup file')

CPU = ['--device', 'cpu', '-p', 'threads:=1']


def data_of(page: Path) -> dict:
    """Return the JSON data of a page."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>',
        page.read_text('utf-8'),
        re.DOTALL,
    )
    return json.loads(text)


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    return wall_bag(tmp_path_factory.mktemp('view') / 'wall', sweeps=5)


@pytest.fixture(scope='module')
def processed(bag, tmp_path_factory) -> Path:
    """Return a bag with inputs and outputs."""
    out = tmp_path_factory.mktemp('view') / 'processed'
    assert (
        main(
            [
                'process',
                str(bag),
                str(out),
                '--inputs',
                '--confidence',
                '--quiet',
                *CPU,
                '-p',
                'depth.max:=0.7143',
            ]
        )
        == 0
    )
    return out


def test_depth_of_a_bag_without_depth_is_computed(bag, tmp_path, capsys):
    page = tmp_path / 'deep' / 'page.html'
    status = main(
        [
            'view',
            str(bag),
            '-o',
            str(page),
            '--json',
            '--first',
            '1',
            '--every',
            '2',
            '--sweeps',
            '9',
            '--range',
            '0.4',
            '2',
            *CPU,
        ]
    )
    summary = json.loads(capsys.readouterr().out)
    assert status == 0
    assert summary['bytes'] == page.stat().st_size and summary['output'] == str(page)
    assert [s['name'].split(':')[0] for s in summary['sweeps']] == ['1', '3']
    assert {(s['planes'], s['curves']) for s in summary['sweeps']} == {(len(FOCUS), True)}
    first = data_of(page)['sweeps'][0]
    assert first['focus'] == pytest.approx(FOCUS, abs=1e-5)
    assert (first['scales']['depth']['low'], first['scales']['depth']['high']) == (0.4, 2.0)
    assert first['limits'] == [0.1, 20.0]
    assert np.nanmedian(depth_of(first)) == pytest.approx(1 / 1.4, rel=0.25)
    assert first['camera'] == [86.0, 86.0, 47.5, 31.5]


def test_recorded_depth_gets_computed_focus_curves(processed, tmp_path, capsys):
    page = tmp_path / 'page.html'
    assert main(['view', str(processed), '-o', str(page), '--sweeps', '2', *CPU]) == 0
    assert re.fullmatch(
        rf'2 sweeps, \d\.\d\d MB: {re.escape(str(page))}\n', capsys.readouterr().out
    )
    recorded = [
        pixels(message) for message in messages_by_topic(processed)['/depth/image_rect'][:2]
    ]
    for sweep, depth in zip(data_of(page)['sweeps'], recorded, strict=True):
        assert np.isposinf(
            depth
        ).any()  # depth.max of the recording differs from that of this call
        assert depth_of(sweep) == pytest.approx(depth, rel=3e-4, nan_ok=True)
        assert sweep['curves'] is not None and len(sweep['planes']) == len(FOCUS)
        assert 'computed with' in sweep['facts']['curves']

    assert (
        main(['view', str(processed), '-o', str(page), '--recompute', '--sweeps', '1', *CPU]) == 0
    )
    (sweep,) = data_of(page)['sweeps']
    assert not np.isposinf(depth_of(sweep)).any()


def test_no_network_shows_recorded_outputs_only(processed, bag, tmp_path, capsys):
    page = tmp_path / 'page.html'
    assert main(['view', str(processed), '-o', str(page), '--no-network', '--first', '2']) == 0
    sweeps = data_of(page)['sweeps']
    assert len(sweeps) == 3
    for sweep in sweeps:
        assert sweep['planes'] is None and sweep['curves'] is None
        assert sweep['confidence'] is not None and sweep['focus'] is not None
    capsys.readouterr()
    assert main(['view', str(bag), '-o', str(page), '--no-network']) == 1
    assert 'has no depth' in capsys.readouterr().err


@pytest.mark.parametrize(
    'more, status, text',
    [
        (['--sweeps', '0'], 2, '--sweeps: must be 1 or more'),
        (['--first', '-1'], 2, '--first takes 0 or more'),
        (['--range', '2', '1'], 2, 'the nearer one first'),
        (['--port', '99999'], 2, '--port takes 0 to 65535'),
        (['--depth-topic', 'other', '--sweeps', '1'], 2, 'no depth on /other'),
        (['--first', '50', *CPU], 1, 'no sweep to show; it has 5'),
    ],
)
def test_options_out_of_range_are_refused(bag, tmp_path, capsys, more, status, text):
    assert main(['view', str(bag), '-o', str(tmp_path / 'page.html'), *more]) == status
    assert text in capsys.readouterr().err
    assert not (tmp_path / 'page.html').exists()


@pytest.mark.parametrize(
    'arguments, text',
    [
        ([], 'give a bag'),
        (['nowhere'], 'neither an existing bag nor a topic'),
        (['/nowhere', '-o', 'page.html'], 'there is no bag /nowhere'),
        (['--live', '/a b'], 'is not the name of a topic'),
        (['--live', '-o', 'page.html'], 'a live view cannot be written'),
    ],
)
def test_sources_that_do_not_exist_are_refused(capsys, arguments, text):
    assert main(['view', *arguments]) == 2
    assert text in capsys.readouterr().err


def test_ctrl_c_ends_the_server_with_status_0(processed):
    command = [
        sys.executable,
        '-m',
        'dualfocus_ros.cli.main',
        'view',
        str(processed),
        '--no-network',
        '--sweeps',
        '1',
        '--port',
    ]
    process = subprocess.Popen(
        [*command, '0'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        url = process.stdout.readline().strip()
        assert url.startswith('http://127.0.0.1:'), process.communicate(timeout=20)
        with urllib.request.urlopen(url, timeout=20.0) as answer:
            assert '0: depth at' in answer.read().decode()
        taken = int(url.rstrip('/').rpartition(':')[2])
        again = subprocess.run([*command, str(taken)], capture_output=True, text=True, timeout=60)
        assert again.returncode == 1 and 'choose another --port' in again.stderr
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0 and 'Traceback' not in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_sweeps_are_named_by_their_stamps(bag, tmp_path):
    page = tmp_path / 'page.html'
    assert main(['view', str(bag), '-o', str(page), '--sweeps', '1', '--quiet', *CPU]) == 0
    (sweep,) = data_of(page)['sweeps']
    assert f'{START // 10**9}.{START // 10**6 % 1000:03d} s' in sweep['name']
