# SPDX-License-Identifier: Apache-2.0
"""`dualfocus process`: outputs, choice of topics, errors."""

import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.main import main
from small_bags import CAMERA, FOCUS, PERIOD, START, messages_by_topic, pixels, wall_bag

MAIN = {
    '/depth/image_rect',
    '/depth/camera_info',
    '/depth/sigma',
    '/rgb/image_rect',
    '/rgb/camera_info',
    '/stack_info',
}


def run(*words):
    return main(['process', *map(str, words), '--device', 'cpu', '--quiet'])


def copy_changed(source, target, change):
    """Copy a bag; ``change(topic, message)`` returns (topic, message) pairs to write instead."""
    with BagReader(source) as bag, BagWriter(target) as out:
        for message in bag.messages():
            for topic, changed in change(message.topic, message.message):
                out.write_message(topic, changed, message.stamp_ns)
    return target


def same(topic, message):
    return [(topic, message)]


def test_every_sweep_gives_all_outputs(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'in')
    assert run(bag, tmp_path / 'out', '--json') == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary['sweeps'], summary['depths'], summary['rejected']) == (3, 3, {})
    got = messages_by_topic(tmp_path / 'out')
    assert set(got) == MAIN
    assert {len(messages) for messages in got.values()} == {3}
    # The reference plane is the one focused nearest: the first of each sweep.
    stamps = [START + k * 5 * PERIOD for k in range(3)]
    for messages in got.values():
        assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages] == stamps
        assert {m.header.frame_id for m in messages} == {'camera_optical_frame'}
    depth = pixels(got['/depth/image_rect'][0])
    assert np.nanmedian(depth) == pytest.approx(1 / 1.4, rel=0.2)
    assert got['/depth/camera_info'][0].k[0] == CAMERA.fx
    info = got['/stack_info'][2]
    assert info.focus_dioptres == pytest.approx(FOCUS)
    assert (info.sweep_id, info.flags, info.device[:3]) == (2, 0, 'cpu')
    assert np.isnan([info.assemble_ms, info.inference_ms, info.publish_ms]).all()
    # From the last plane to when the bag got the last message of the sweep.
    assert info.latency_ms == 0.0


def test_the_same_bag_gives_the_same_bytes(tmp_path):
    bag = wall_bag(tmp_path / 'in')
    for turn in 'ab':
        assert run(bag, tmp_path / turn / 'out', '--points', '--inputs', '--confidence') == 0
    for name in ('out.mcap', 'metadata.yaml'):
        assert (tmp_path / 'a/out' / name).read_bytes() == (tmp_path / 'b/out' / name).read_bytes()


def test_writes_optional_outputs_on_request(tmp_path):
    bag = wall_bag(tmp_path / 'in', sweeps=1)
    options = ('--points', '--points-decimated', '--confidence', '--inputs', '--compress')
    assert run(bag, tmp_path / 'out', *options) == 0
    with BagReader(bag) as before, BagReader(tmp_path / 'out') as after:
        assert set(after.topics) == MAIN | {
            '/depth/points',
            '/depth/points_decimated',
            '/depth/confidence',
            *before.topics,
        }
        for topic in before.topics:
            assert [(m.stamp_ns, m.data) for m in before.messages([topic])] == [
                (m.stamp_ns, m.data) for m in after.messages([topic])
            ]


def test_finds_topics_by_type_and_ignores_outputs(tmp_path):
    first = wall_bag(tmp_path / 'in', prefix='robot/eye')
    assert run(first, tmp_path / 'out', '--inputs') == 0
    # Now the bag contains outputs, which are images too.
    assert run(tmp_path / 'out', tmp_path / 'again', '--inputs') == 0
    a, b = messages_by_topic(tmp_path / 'out'), messages_by_topic(tmp_path / 'again')
    assert set(a) == set(b)
    assert bytes(a['/depth/image_rect'][1].data) == bytes(b['/depth/image_rect'][1].data)


def two_cameras(tmp_path):
    bag = wall_bag(tmp_path / 'one', prefix='left')

    def twice(topic, message):
        return [(topic, message), (topic.replace('left', 'right'), message)]

    return copy_changed(bag, tmp_path / 'two', twice)


def test_several_cameras_need_a_choice(tmp_path, capsys):
    bag = two_cameras(tmp_path)
    assert run(bag, tmp_path / 'out') == 2
    message = capsys.readouterr().err
    assert '/left/image_raw, /right/image_raw: choose one with --image-topic' in message
    assert not (tmp_path / 'out').exists()
    assert run(bag, tmp_path / 'out', '--image-topic', '/right/image_raw', '--inputs') == 0
    got = messages_by_topic(tmp_path / 'out')
    assert {'/right/image_raw', '/right/camera_info', '/right/focus_state'} == set(got) - MAIN
    assert len(got['/depth/image_rect']) == 3


def test_remaps_inputs_and_outputs(tmp_path):
    bag = two_cameras(tmp_path)
    remaps = (
        'image_raw:=/left/image_raw',
        'camera_info:=left/camera_info',
        'focus_state:=/left/focus_state',
        'depth/image_rect:=/left/depth',
    )
    options = [word for remap in remaps for word in ('--remap', remap)]
    assert run(bag, tmp_path / 'out', *options) == 0
    assert set(messages_by_topic(tmp_path / 'out')) == MAIN - {'/depth/image_rect'} | {
        '/left/depth'
    }


@pytest.mark.parametrize(
    ('given', 'status', 'text'),
    [
        (('--param', 'depth.max:=-1'), 2, 'depth.max must be'),
        (('--param', 'depth.maxi:=1'), 2, 'the depth node has no parameter depth.maxi'),
        (('--param', 'depth.max'), 2, '--param takes NAME:=VALUE'),
        (('--remap', 'image_raw'), 2, '--remap takes FROM:=TO'),
        (('--image-topic', '/nothing'), 2, 'no images on /nothing; it has images on /image_raw'),
        (('--focus-topic', '/image_raw'), 2, 'the bag has no focus on /image_raw'),
        (('--param', 'focus_source:=command'), 1, 'no focus for /image_raw'),
        (('--intrinsics', '1,2,3'), 2, "'1,2,3' is not FX,FY,CX,CY"),
        (('--params-file', '/nowhere.yaml'), 2, '/nowhere.yaml cannot be read'),
        (('--param', 'model:=/nowhere.safetensors'), 1, '/nowhere.safetensors'),
    ],
)
def test_reports_usage_errors(tmp_path, capsys, given, status, text):
    bag = wall_bag(tmp_path / 'in', sweeps=1)
    assert run(bag, tmp_path / 'out', *given) == status
    assert text in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_reads_parameters_from_files_and_options(tmp_path):
    bag = wall_bag(tmp_path / 'in', sweeps=1)
    file = tmp_path / 'p.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    use_sim_time: true\n    depth:\n      max: 0.3\n'
        'dualfocus:\n  ros__parameters:\n    depth.encoding: 16UC1\n'
    )
    assert run(bag, tmp_path / 'a', '--params-file', file) == 0
    image = messages_by_topic(tmp_path / 'a')['/depth/image_rect'][0]
    assert image.encoding == '16UC1'
    assert not image.data.any()  # all farther than 0.3 m
    assert run(bag, tmp_path / 'b', '--params-file', file, '-p', 'depth.max:=5') == 0
    assert messages_by_topic(tmp_path / 'b')['/depth/image_rect'][0].data.any()


def test_bag_without_camera_info(tmp_path, capsys):
    bag = copy_changed(
        wall_bag(tmp_path / 'all', sweeps=2),
        tmp_path / 'in',
        lambda topic, message: [] if topic == '/camera_info' else [(topic, message)],
    )
    assert run(bag, tmp_path / 'none', '--points') == 0
    assert 'no camera_info for /image_raw' in capsys.readouterr().err
    assert set(messages_by_topic(tmp_path / 'none')) == MAIN - {
        '/depth/camera_info',
        '/rgb/camera_info',
    }
    assert run(bag, tmp_path / 'numbers', '--points', '--intrinsics', '80,81,47,31') == 0
    got = messages_by_topic(tmp_path / 'numbers')
    assert list(got['/depth/camera_info'][1].k) == [80, 0, 47, 0, 81, 31, 0, 0, 1]
    assert len(got['/depth/points']) == 2
    file = tmp_path / 'camera.yaml'
    file.write_text(
        'image_width: 96\nimage_height: 64\ncamera_name: eye\n'
        'camera_matrix: {rows: 3, cols: 3, data: [82, 0, 48, 0, 83, 32, 0, 0, 1]}\n'
        'distortion_model: plumb_bob\n'
        'distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n'
        'rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}\n'
        'projection_matrix: {rows: 3, cols: 4, data: [82, 0, 48, 0, 0, 83, 32, 0, 0, 0, 1, 0]}\n'
    )
    assert run(bag, tmp_path / 'file', '--camera-info', file) == 0
    assert messages_by_topic(tmp_path / 'file')['/depth/camera_info'][0].k[0] == 82
    file.write_text('image_width: 96\n')
    assert run(bag, tmp_path / 'wrong', '--camera-info', file) == 2
    assert 'not a calibration file' in capsys.readouterr().err


def test_last_sweep_may_be_incomplete(tmp_path):
    kept = []

    def first_frames(topic, message):
        kept.append(topic)
        return [(topic, message)] if kept.count(topic) <= 8 else []

    bag = copy_changed(wall_bag(tmp_path / 'all', sweeps=2), tmp_path / 'in', first_frames)
    assert run(bag, tmp_path / 'out') == 0
    flags = [info.flags for info in messages_by_topic(tmp_path / 'out')['/stack_info']]
    assert flags == [0, 1 | 8]  # the second lacks two of five planes


def test_counts_images_of_wrong_size(tmp_path, capsys):
    def lie(topic, message):
        if topic == '/image_raw' and message.header.stamp.nanosec == START % 10**9:
            message.width, message.height = 640, 480
        return [(topic, message)]

    bag = copy_changed(wall_bag(tmp_path / 'all', sweeps=2), tmp_path / 'in', lie)
    assert run(bag, tmp_path / 'out', '--json') == 0
    assert json.loads(capsys.readouterr().out)['rejected']['row_step'] == 1
    assert len(messages_by_topic(tmp_path / 'out')['/depth/image_rect']) == 1


def test_counts_undecodable_messages(tmp_path, capsys):
    source = wall_bag(tmp_path / 'all', sweeps=2)
    with BagReader(source) as bag, BagWriter(tmp_path / 'in') as out:
        for n, message in enumerate(bag.messages()):
            data = message.data
            if n == 0:
                data = data[:11]
            elif n == 3:  # the length of the frame_id
                data = data[:12] + b'\xff\xff\xff\xff' + data[16:]
            out.write(message.topic, message.message_type, message.stamp_ns, data)
    assert run(tmp_path / 'in', tmp_path / 'out', '--json') == 0
    assert json.loads(capsys.readouterr().out)['rejected']['not_decodable'] == 2
