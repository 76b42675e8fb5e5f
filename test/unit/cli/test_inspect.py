# SPDX-License-Identifier: Apache-2.0
"""`dualfocus inspect`, and bags that others made or that are damaged."""

import json
from pathlib import Path
import shutil

import cv2
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.bags.bag_files import zstd
from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.main import main
from small_bags import FOCUS, START, contents, wall_bag

SHARED = Path(__file__).parents[4] / 'shared/data'


def inspect(capsys, *words):
    status = main(['inspect', *map(str, words), '--json', '--quiet'])
    return status, json.loads(capsys.readouterr().out or 'null')


def messages(path):
    with BagReader(path) as bag:
        return [(m.topic, m.message_type, m.stamp_ns, m.data) for m in bag.messages()]


def test_topics_stamps_sweeps_and_focus_are_told(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'in', prefix='eye')
    status, told = inspect(capsys, bag)
    assert status == 0
    assert set(told['topics']) == {'/eye/image_raw', '/eye/camera_info', '/eye/focus_state'}
    image = told['topics']['/eye/image_raw']
    assert (image['count'], image['formats']) == (15, {'rgb8 96x64': 15})
    assert image['rate_hz'] == pytest.approx(1e9 / 33e6)
    assert image['header_first_ns'] == START
    assert told['inputs']['image'] == '/eye/image_raw'
    assert [sweep['sweep_id'] for sweep in told['sweeps']] == [0, 1, 2]
    assert told['sweeps'][0]['focus_dioptres'] == pytest.approx(FOCUS)
    assert [(bin_['focus_dioptres'], bin_['count']) for bin_ in told['focus_histogram']] == [
        (focus, 3) for focus in sorted(FOCUS)
    ]
    assert told['rejected'] == []
    assert told['funnel']['stacked'] == 3


def test_what_would_be_rejected_is_told_with_the_reason(tmp_path, capsys):
    source = wall_bag(tmp_path / 'all', sweeps=2)
    with BagReader(source) as bag, BagWriter(tmp_path / 'in') as out:
        for n, message in enumerate(bag.messages()):
            changed = message.message
            if message.topic == '/image_raw' and n == 3:
                changed.step = 5
            if message.topic == '/focus_state' and n == 8:
                changed.state = 2
            out.write_message(message.topic, changed, message.stamp_ns)
    status, told = inspect(capsys, tmp_path / 'in')
    assert status == 0
    reasons = {rejection['reason']: rejection['count'] for rejection in told['rejected']}
    assert reasons['row_step'] == 1
    assert reasons['moving'] == 1
    refused = told['topics']['/image_raw']['refused']
    assert list(refused.values()) == [1] and 'step is 5' in next(iter(refused))
    assert [sweep['flags'] for sweep in told['sweeps']] == [['plane_missing', 'partial'], []]


def test_a_contact_sheet_shows_a_sweep_and_its_depth(tmp_path, capsys):
    bag = wall_bag(tmp_path / 'in', sweeps=2)
    sheet = tmp_path / 'sheets' / 'sheet.png'
    status, told = inspect(capsys, bag, '--sheet', sheet, '--device', 'cpu')
    assert (status, told['sheet']) == (0, str(sheet))
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] == 1600
    assert main(['inspect', str(bag), '--sheet', str(sheet), '--sweep', '7', '--quiet']) == 1
    assert 'has no sweep 7 to show (2 found)' in capsys.readouterr().err
    assert main(['inspect', str(bag), '--sheet', 'sheet.jpg', '--quiet']) == 2


def test_the_text_has_a_line_for_each_topic_and_sweep(tmp_path, capsys):
    assert main(['inspect', str(wall_bag(tmp_path / 'in'))]) == 0
    text = capsys.readouterr().out
    assert '/image_raw [sensor_msgs/msg/Image] 15 messages' in text
    assert '5 planes: 2.20 1.80 1.40 1.00 0.60 dioptres' in text
    assert 'rejected: nothing' in text


@pytest.mark.parametrize('mode', ['message', 'file'])
def test_zstd_by_message_and_by_file(tmp_path, mode):
    source = wall_bag(tmp_path / 'in', sweeps=1)
    target = tmp_path / 'packed'
    target.mkdir()
    metadata = (source / 'metadata.yaml').read_text()
    if mode == 'file':
        packed = zstd.compress((source / 'in.mcap').read_bytes())
        (target / 'in.mcap.zstd').write_bytes(packed)
        metadata = metadata.replace('in.mcap', 'in.mcap.zstd')
    else:
        shutil.rmtree(target)
        with BagReader(source) as bag, BagWriter(target) as out:
            for m in bag.messages():
                out.write(m.topic, m.message_type, m.stamp_ns, zstd.compress(m.data))
        metadata = (target / 'metadata.yaml').read_text()
    metadata = metadata.replace("compression_format: ''", 'compression_format: zstd')
    metadata = metadata.replace("compression_mode: ''", f'compression_mode: {mode}')
    (target / 'metadata.yaml').write_text(metadata)
    assert messages(target) == messages(source)
    file = next(f for f in target.iterdir() if '.mcap' in f.name)
    assert messages(file) == messages(source)


def test_missing_splits_cost_only_themselves(tmp_path, capsys):
    source = wall_bag(tmp_path / 'in', sweeps=2)
    text = (source / 'metadata.yaml').read_text()
    (source / 'metadata.yaml').write_text(text.replace('- in.mcap', '- in_0.mcap\n  - in.mcap', 1))
    status, told = inspect(capsys, source)
    assert status == 0
    assert '1 of 2 files are missing (in_0.mcap)' in told['problems'][0]
    assert len(told['sweeps']) == 2
    (source / 'in.mcap').unlink()
    with pytest.raises(BagError, match=r'none of the files .* is there: in_0\.mcap, in\.mcap'):
        BagReader(source)


@pytest.mark.parametrize('compress', [False, True])
@pytest.mark.parametrize('share', [0.999, 0.6, 0.1])
def test_a_bag_that_is_cut_off_is_read_up_to_the_cut(tmp_path, share, compress):
    source = wall_bag(tmp_path / 'in', sweeps=60)
    with BagReader(source) as bag, BagWriter(tmp_path / 'cut', compress=compress) as out:
        for m in bag.messages():
            out.copy(m, bag.topics[m.topic])
    everything = messages(tmp_path / 'cut')
    file = tmp_path / 'cut/cut.mcap'
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    (tmp_path / 'cut/metadata.yaml').unlink()
    with BagReader(tmp_path / 'cut') as bag:
        got = [(m.topic, m.message_type, m.stamp_ns, m.data) for m in bag.messages()]
        assert len(bag.problems) == 2  # no metadata, no end
        assert sum(topic.count for topic in bag.topics.values()) == len(got)
        assert (bag.start_ns, bag.end_ns) == (got[0][2], got[-1][2]) if got else (0, 0)
    assert got == everything[: len(got)]
    # A chunk has a megabyte; a compressed one is lost when its end is.
    lost = 2**20 / sum(len(m[3]) for m in everything) if compress else 0.0
    assert len(got) >= (share - lost - 0.03) * len(everything)


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'nothing of the kind', b'\0' * 5000])
@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_files_that_are_no_bags_are_refused_in_one_line(tmp_path, capsys, content, suffix):
    file = tmp_path / f'x{suffix}'
    file.write_bytes(content)
    status = main(['inspect', str(file), '--quiet'])
    said = capsys.readouterr()
    if status == 0:  # an MCAP file with nothing in it
        assert '0 topics' in said.out
    else:
        assert status == 1 and str(file) in said.err
    assert 'Traceback' not in said.err


def test_old_type_names_are_understood(tmp_path, capsys):
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
    assert contents(tmp_path / 'old')['/image_raw'][0].encoding == 'rgb8'
    status, told = inspect(capsys, tmp_path / 'old')
    assert (status, len(told['sweeps'])) == (0, 1)


@pytest.mark.parametrize('command', ['inspect', 'process'])
def test_a_real_camera_without_focus_and_with_missing_splits(tmp_path, capsys, command):
    bag = SHARED / 'bag_real_camera'
    if not bag.exists():
        pytest.skip('the shared example bag is not on this machine')
    words = [command, str(bag)] + ([str(tmp_path / 'out')] if command == 'process' else [])
    assert main(words) == (0 if command == 'inspect' else 1)
    said = capsys.readouterr()
    assert '12 of 13 files are missing' in said.err
    assert 'nothing that tells the focus of /camera/image_raw' in said.out + said.err
    assert 'Traceback' not in said.err
    if command == 'inspect':
        assert 'rgb8 640x480: 2' in said.out


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_of_all_types_with_images_that_lie(tmp_path, capsys, storage):
    bag = SHARED / 'bags_all_types' / f'test_bag_{storage}'
    if not bag.exists():
        pytest.skip('the shared example bag is not on this machine')
    status, told = inspect(capsys, bag)
    assert status == 0
    assert sum(topic['count'] for topic in told['topics'].values()) == 188
    topics = told['topics']
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
    assert 'nothing that tells the focus' in capsys.readouterr().err
