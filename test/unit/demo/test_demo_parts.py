# SPDX-License-Identifier: Apache-2.0
"""The demo's bookkeeping: matching by stamp, figures, pictures, processes, folders."""

import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.stack_bag import image, make_header
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.demo.collector import DemoCollector, decode_cloud, decode_image, read_stamp
from dualfocus_ros.demo.node_processes import NodeProcess, NodeGroup, isolated_environment
from dualfocus_ros.demo.demo_report import compute_metrics, format_summary, write_pictures
from dualfocus_ros.cli.main import main

SECOND = 1_000_000_000
TYPES = typestore()


def image_cdr(stamp_ns: int, values: np.ndarray, encoding: str = '') -> bytes:
    header = make_header(TYPES, stamp_ns, 'camera')
    message = image(TYPES, header, values) if values.dtype == np.uint8 else None
    if message is None:
        height, width = values.shape
        data = np.frombuffer(values.tobytes(), np.uint8)
        message = TYPES.types['sensor_msgs/msg/Image'](
            header, height, width, encoding, 0, data.size // height, data
        )
    return bytes(TYPES.serialize_cdr(message, 'sensor_msgs/msg/Image'))


def cloud_cdr(stamp_ns: int, points: np.ndarray) -> bytes:
    height, width = points.shape[:2]
    data = np.frombuffer(points.astype('<f4').tobytes(), np.uint8)
    message = TYPES.types['sensor_msgs/msg/PointCloud2'](
        make_header(TYPES, stamp_ns, 'camera'),
        height,
        width,
        [],
        False,
        16,
        16 * width,
        data,
        False,
    )
    return bytes(TYPES.serialize_cdr(message, 'sensor_msgs/msg/PointCloud2'))


def info_cdr(stamp_ns: int, planes: list[int], flags: int = 0) -> bytes:
    message = TYPES.types['dualfocus_ros/msg/StackInfo'](
        header=make_header(TYPES, stamp_ns, 'camera'),
        stamps=[make_header(TYPES, s, '').stamp for s in planes],
        focus_dioptres=np.linspace(2.0, 0.5, len(planes), dtype=np.float32),
        sweep_id=1,
        flags=flags,
        sweep_duration=0.5,
        assemble_ms=1.0,
        inference_ms=50.0,
        publish_ms=2.0,
        latency_ms=60.0,
        model='small',
        device='cpu',
    )
    return bytes(TYPES.serialize_cdr(message, 'dualfocus_ros/msg/StackInfo'))


def test_stamp_of_reads_the_header_of_any_stamped_message():
    assert read_stamp(info_cdr(12 * SECOND + 345, [1, 2])) == 12 * SECOND + 345
    assert read_stamp(image_cdr(7, np.zeros((2, 2), np.uint8))) == 7


def test_pixels_of_every_encoding_that_the_demo_sees():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(decode_image(image_cdr(1, rgb)), rgb)
    assert np.array_equal(decode_image(image_cdr(1, rgb[..., 0])), rgb[..., 0])
    metres = np.array([[1.5, np.nan]], np.float32)
    assert np.array_equal(decode_image(image_cdr(1, metres, '32FC1')), metres, equal_nan=True)
    millimetres = np.array([[1500, 0]], np.uint16)
    assert np.array_equal(decode_image(image_cdr(1, millimetres, '16UC1')), metres, equal_nan=True)
    with pytest.raises(ValueError, match='encoding 64FC1'):
        decode_image(image_cdr(1, metres, '64FC1'))
    points = np.random.default_rng(1).random((3, 2, 4), np.float32)
    assert np.array_equal(decode_cloud(cloud_cdr(1, points)), points)


def feed(collector: DemoCollector, start: int, factor: float, flags: int = 0) -> None:
    """Send one sweep of three planes with its outputs; the depth is the truth times factor."""
    stamps = [start + n * SECOND // 10 for n in range(3)]
    truth = np.full((48, 64), 1.25, np.float32)
    truth[:, 32:] = 0.8
    grey = np.random.default_rng(2).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for stamp in stamps:
        collector('/image_raw', image_cdr(stamp, grey), stamp)
        collector('/ground_truth/depth', image_cdr(stamp, truth, '32FC1'), stamp)
    at = stamps[0]
    receipt = stamps[-1] + 70_000_000
    points = np.dstack([truth, truth, truth * factor, np.zeros_like(truth)])
    collector('/depth/image_rect', image_cdr(at, truth * np.float32(factor), '32FC1'), receipt)
    collector('/depth/sigma', image_cdr(at, 0.1 * truth, '32FC1'), receipt)
    collector('/rgb/image_rect', image_cdr(at, grey), receipt)
    collector('/depth/points', cloud_cdr(at, points), receipt)
    collector('/stack_info', info_cdr(at, stamps, flags), receipt)


def test_depth_is_compared_with_the_truth_of_its_stamp_and_only_that_is_kept(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        for n in range(5):
            feed(collector, n * SECOND, 1.1)
        # A depth of which no truth ever comes.
        collector(
            '/depth/image_rect',
            image_cdr(99 * SECOND, np.ones((48, 64), np.float32), '32FC1'),
            100 * SECOND,
        )
        collector.finish()
    measured = compute_metrics(collector, seconds=5.0)
    assert (measured['depths'], measured['compared']) == (6, 5)
    assert measured['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert measured['rmse_m'] == pytest.approx(np.sqrt((0.125**2 + 0.08**2) / 2), rel=1e-3)
    assert (measured['delta1'], measured['valid']) == (1.0, 1.0)
    assert measured['image_rate_hz'] == 3.0
    assert measured['latency_ms']['p50'] == 60.0
    assert measured['receipt_latency_ms'] == {'p50': 70.0, 'p90': 70.0, 'p99': 70.0, 'max': 70.0}
    assert (measured['planes'], measured['model']) == (3, 'small')
    json.dumps(measured)
    text = format_summary(measured, 'table')
    assert 'AbsRel 0.1000' in text and 'p90 60 ms' in text
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.topics['/ground_truth/depth'].count == 5


def test_measuring_begins_with_the_first_whole_sweep(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        assert not collector.begin()
        feed(collector, SECOND, 2.0, flags=8)
        assert not collector.begin()
        feed(collector, 2 * SECOND, 1.0)
        assert collector.begin()
        feed(collector, 3 * SECOND, 1.2, flags=1)  # what is wrong later counts
        measured = compute_metrics(collector, seconds=1.0)
    assert (measured['depths'], measured['flagged']) == (2, 1)
    assert measured['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert [row['flags'] for row in measured['each']] == [0, 1]


def test_pictures_of_the_newest_complete_depth(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        collector = DemoCollector(bag)
        assert collector.example() is None
        feed(collector, SECOND, 1.0)
        feed(collector, 2 * SECOND, 1.05)
        collector('/stack_info', info_cdr(9 * SECOND, [8 * SECOND, 9 * SECOND]), 9 * SECOND)
    example = collector.example()
    assert example is not None
    assert len(example.planes) == len(example.focus_dioptres) == 3
    assert np.allclose(example.depth, 1.05 * example.truth)
    write_pictures(tmp_path, example, compute_metrics(collector, 1.0), 'table')
    assert cv2.imread(str(tmp_path / 'panel.png')).shape[1] == 1600
    assert b'element vertex 3072' in (tmp_path / 'cloud.ply').read_bytes()


def test_figures_of_nothing_are_unknown_not_zero(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        measured = compute_metrics(DemoCollector(bag), seconds=1.0)
    assert measured['abs_rel'] is None and measured['latency_ms'] is None
    assert measured['depth_rate_hz'] is None
    assert 'unknown' in format_summary(measured, 'table')


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path, capsys):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'thesis.txt').write_text('mine')
    assert main(['demo', '-o', str(tmp_path / 'demo')]) == 1
    assert 'was not made by this command' in capsys.readouterr().err
    assert (tmp_path / 'demo' / 'thesis.txt').read_text() == 'mine'
    assert main(['demo', '-o', str(tmp_path / 'x'), '--planes', '1']) == 2


def test_own_domain_and_localhost(monkeypatch):
    pytest.importorskip('ament_index_python', reason='needs ROS 2: source its setup file')
    monkeypatch.delenv('ROS_DOMAIN_ID', raising=False)
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    variables = isolated_environment()
    assert 1 <= int(variables['ROS_DOMAIN_ID']) <= 101
    assert Path(variables['FASTDDS_DEFAULT_PROFILES_FILE']).is_file()
    monkeypatch.setenv('ROS_DOMAIN_ID', '55')
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/my/profile.xml')
    variables = isolated_environment()
    assert variables['ROS_DOMAIN_ID'] == '55'
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in variables


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_processes_end_in_order_and_a_failure_is_noted(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    environment = dict(os.environ)
    with NodeGroup() as processes:
        processes.start('focus_sweep_node', [], tmp_path, environment)
        wait_until(lambda: 'sweep' in processes.nodes[0].printed())
        assert processes.stop() == {'focus_sweep_node': 0}
        assert processes.problems == []
    with NodeGroup() as processes:
        processes.start('focus_sweep_node', ['-p', 'mode:=nonsense'], tmp_path, environment)
        wait_until(lambda: processes.dead())
        assert 'nonsense' in processes.nodes[0].last_words()
        processes.stop()
        assert processes.problems == ['focus_sweep_node ended by itself with status 1']


@pytest.mark.skipif(sys.platform != 'linux', reason='prctl is of Linux')
def test_nodes_do_not_outlive_a_parent_that_is_killed(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    code = (
        'import os, pathlib, sys, time\n'
        'from dualfocus_ros.demo.node_processes import NodeProcess\n'
        f'logs = pathlib.Path({str(tmp_path)!r})\n'
        'node = NodeProcess("focus_sweep_node", [], logs / "log", {})\n'
        'print(node._process.pid, flush=True)\n'
        'time.sleep(60)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: 'sweep' in (tmp_path / 'log').read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not Path(f'/proc/{child}').exists() or is_zombie(child))


@pytest.mark.skipif(sys.platform != 'linux', reason='where shared memory is files')
def test_shared_memory_of_a_killed_node_is_given_back_and_of_a_living_one_kept(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    if shutil.which('fastdds') is None:
        pytest.skip('needs the tool of Fast DDS')
    if os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp':
        pytest.skip('is about Fast DDS')

    def segments_of(node: NodeProcess) -> list[Path]:
        """Return the segments of a node, and the file of each that says that it is in use."""
        # Files that it has open and locked; those of its peers it may have open as well.
        links = {
            file.readlink(): Path(f'/proc/{node.pid}/fdinfo/{file.name}').read_text()
            for file in Path(f'/proc/{node.pid}/fd').iterdir()
        }
        locks = [
            link for link, text in links.items()
            if re.fullmatch('fastrtps_[0-9a-f]{16}_el', link.name) and f' {node.pid} ' in text
        ]
        return [*locks, *(lock.with_name(lock.name.removesuffix('_el')) for lock in locks)]

    names = ['killed', 'living']
    nodes = [NodeProcess('focus_sweep_node', [], tmp_path / name, {}) for name in names]
    try:
        for node in nodes:
            wait_until(lambda node=node: 'sweep' in node.printed())
        killed, living = map(segments_of, nodes)
        assert killed and living and all(file.exists() for file in [*killed, *living])
        assert not nodes[0].wait(0.0)
        assert not any(file.exists() for file in killed)
        assert all(file.exists() for file in living)
    finally:
        for node in nodes:
            node.interrupt()
            node.wait(20.0)


def is_zombie(pid: int) -> bool:
    try:
        return ') Z ' in Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return True
