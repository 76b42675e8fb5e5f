# SPDX-License-Identifier: Apache-2.0
"""Reading of bags: compression, missing files, errors."""

import shutil

import pytest

from dualfocus_ros.bags.bag_files import zstd
from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.bags.writer import BagWriter
from small_bags import wall_bag


def messages(path):
    with BagReader(path) as bag:
        return [(m.topic, m.message_type, m.stamp_ns, m.data) for m in bag.messages()]


@pytest.mark.parametrize('mode', ['message', 'file'])
def test_reads_zstd_by_message_and_by_file(tmp_path, mode):
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


def test_refuses_missing_and_empty_folders(tmp_path):
    with pytest.raises(BagError, match='does not exist'):
        BagReader(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(BagError, match='empty'):
        with BagReader(tmp_path / 'empty'):
            pass


def test_refuses_unknown_topics(tmp_path):
    path = wall_bag(tmp_path / 'bag')
    with (
        BagReader(path) as bag,
        pytest.raises(BagError, match=r'has no topic /x; it has .*/image'),
    ):
        next(bag.messages(['/x']))


def test_refuses_a_bag_of_which_all_splits_are_missing(tmp_path):
    source = wall_bag(tmp_path / 'in', sweeps=1)
    text = (source / 'metadata.yaml').read_text()
    (source / 'metadata.yaml').write_text(text.replace('- in.mcap', '- in_0.mcap\n  - in.mcap', 1))
    (source / 'in.mcap').unlink()
    with pytest.raises(BagError, match=r'none of the files .* is there: in_0\.mcap, in\.mcap'):
        BagReader(source)
