# SPDX-License-Identifier: Apache-2.0
"""Truncated MCAP files are read up to the last complete message."""

import pytest

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from small_bags import wall_bag


def messages(path):
    with BagReader(path) as bag:
        return [(m.topic, m.message_type, m.stamp_ns, m.data) for m in bag.messages()]


@pytest.mark.parametrize('compress', [False, True])
@pytest.mark.parametrize('share', [0.999, 0.6, 0.1])
def test_reads_complete_messages(tmp_path, share, compress):
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
    # Chunks have a megabyte; a truncated compressed chunk is lost.
    lost = 2**20 / sum(len(m[3]) for m in everything) if compress else 0.0
    assert len(got) >= (share - lost - 0.03) * len(everything)
