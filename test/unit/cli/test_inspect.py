# SPDX-License-Identifier: Apache-2.0
"""`dualfocus inspect`: report, contact sheet, damaged and foreign bags."""

import json
from pathlib import Path

import cv2
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.main import main
from small_bags import FOCUS, START, messages_by_topic, wall_bag

SHARED = Path(__file__).parents[4] / 'shared/data'


def inspect(capsys, *words):
    status = main(['inspect', *map(str, words), '--json', '--quiet'])
    return status, json.loads(capsys.readouterr().out or 'null')


def messages(path):
    with BagReader(path) as bag:
        return [(m.topic, m.message_type, m.stamp_ns, m.data) for m in bag.messages()]


def test_reports_topics_stamps_sweeps_and_focus(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'in', prefix='eye')
    status, report = inspect(capsys, bag)
    assert status == 0
    assert set(report['topics']) == {'/eye/image_raw', '/eye/camera_info', '/eye/focus_state'}
    image = report['topics']['/eye/image_raw']
    assert (image['count'], image['formats']) == (15, {'rgb8 96x64': 15})
    assert image['rate_hz'] == pytest.approx(1e9 / 33e6)
    assert image['header_first_ns'] == START
    assert report['inputs']['image'] == '/eye/image_raw'
    assert [sweep['sweep_id'] for sweep in report['sweeps']] == [0, 1, 2]
    assert report['sweeps'][0]['focus_dioptres'] == pytest.approx(FOCUS)
    assert [(bin_['focus_dioptres'], bin_['count']) for bin_ in report['focus_histogram']] == [
        (focus, 3) for focus in sorted(FOCUS)
    ]
    assert report['rejected'] == []
    assert report['funnel']['stacked'] == 3


def test_reports_rejections_with_their_reasons(tmp_path, capsys):
    source = wall_bag(tmp_path / 'all', sweeps=2)
    with BagReader(source) as bag, BagWriter(tmp_path / 'in') as out:
        for n, message in enumerate(bag.messages()):
            changed = message.message
            if message.topic == '/image_raw' and n == 3:
                changed.step = 5
            if message.topic == '/focus_state' and n == 8:
                changed.state = 2
            out.write_message(message.topic, changed, message.stamp_ns)
    status, report = inspect(capsys, tmp_path / 'in')
    assert status == 0
    reasons = {rejection['reason']: rejection['count'] for rejection in report['rejected']}
    assert reasons['row_step'] == 1
    assert reasons['moving'] == 1
    refused = report['topics']['/image_raw']['refused']
    assert list(refused.values()) == [1] and 'step is 5' in next(iter(refused))
    assert [sweep['flags'] for sweep in report['sweeps']] == [['plane_missing', 'partial'], []]


def test_writes_a_contact_sheet(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'in', sweeps=2)
    sheet = tmp_path / 'sheets' / 'sheet.png'
    status, report = inspect(capsys, bag, '--sheet', sheet, '--device', 'cpu')
    assert (status, report['sheet']) == (0, str(sheet))
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] == 1600
    assert main(['inspect', str(bag), '--sheet', str(sheet), '--sweep', '7', '--quiet']) == 1
    assert 'has no sweep 7 to show (2 found)' in capsys.readouterr().err
    assert main(['inspect', str(bag), '--sheet', 'sheet.jpg', '--quiet']) == 2


def test_text_lists_topics_and_sweeps(tmp_path, capsys):
    assert main(['inspect', str(wall_bag(tmp_path / 'in'))]) == 0
    text = capsys.readouterr().out
    assert '/image_raw [sensor_msgs/msg/Image] 15 messages' in text
    assert '5 planes: 2.20 1.80 1.40 1.00 0.60 dioptres' in text
    assert 'rejected: nothing' in text


def test_reads_the_rest_of_missing_splits(tmp_path, capsys):
    source = wall_bag(tmp_path / 'in', sweeps=2)
    text = (source / 'metadata.yaml').read_text()
    (source / 'metadata.yaml').write_text(text.replace('- in.mcap', '- in_0.mcap\n  - in.mcap', 1))
    status, report = inspect(capsys, source)
    assert status == 0
    assert '1 of 2 files are missing (in_0.mcap)' in report['problems'][0]
    assert len(report['sweeps']) == 2


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'nothing of the kind', b'\0' * 5000])
@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_refuses_files_that_are_not_bags(tmp_path, capsys, content, suffix):
    file = tmp_path / f'x{suffix}'
    file.write_bytes(content)
    status = main(['inspect', str(file), '--quiet'])
    output = capsys.readouterr()
    if status == 0:  # an empty MCAP file
        assert '0 topics' in output.out
    else:
        assert status == 1 and str(file) in output.err
    assert 'Traceback' not in output.err


def test_reads_ros1_type_names(tmp_path, capsys):
    source = wall_bag(tmp_path / 'in', sweeps=1)
    with Writer(tmp_path / 'old', version=8, storage_plugin=StoragePlugin.MCAP) as out:
        connections = {}
        for topic, kind, stamp, data in messages(source):
            if topic not in connections:
                definition, _ = typestore().generate_msgdef(kind, ros_version=2)
                connections[topic] = out.add_connection(
                    topic, kind.replace('/msg/', '/'), msgdef=definition, rihs01='RIHS01_0'
                )
            out.write(connections[topic], stamp, data)
    assert messages(tmp_path / 'old') == messages(source)
    assert messages_by_topic(tmp_path / 'old')['/image_raw'][0].encoding == 'rgb8'
    status, report = inspect(capsys, tmp_path / 'old')
    assert (status, len(report['sweeps'])) == (0, 1)


@pytest.mark.parametrize('command', ['inspect', 'process'])
def test_real_camera_without_focus(tmp_path, capsys, command):
    bag = SHARED / 'bag_real_camera'
    if not bag.exists():
        pytest.skip('the shared example bag is missing')
    words = [command, str(bag)] + ([str(tmp_path / 'out')] if command == 'process' else [])
    assert main(words) == (0 if command == 'inspect' else 1)
    output = capsys.readouterr()
    assert '12 of 13 files are missing' in output.err
    assert 'no focus for /camera/image_raw' in output.out + output.err
    assert 'Traceback' not in output.err
    if command == 'inspect':
        assert 'rgb8 640x480: 2' in output.out


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_of_all_message_types(tmp_path, capsys, storage):
    bag = SHARED / 'bags_all_types' / f'test_bag_{storage}'
    if not bag.exists():
        pytest.skip('the shared example bag is missing')
    status, report = inspect(capsys, bag)
    assert status == 0
    assert sum(topic['count'] for topic in report['topics'].values()) == 188
    topics = report['topics']
    assert 'the message has 30' in next(iter(topics['/test/sensor_msgs/image']['refused']))
    packed = topics['/test/sensor_msgs/compressed_image']['refused']
    assert 'neither JPEG nor PNG' in next(iter(packed))
    words = [
        'process',
        str(bag),
        str(tmp_path / 'out'),
        '--image-topic',
        '/test/sensor_msgs/image',
    ]
    assert main(words) == 1
    assert 'no focus for' in capsys.readouterr().err
