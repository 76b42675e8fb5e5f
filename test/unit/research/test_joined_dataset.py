# SPDX-License-Identifier: Apache-2.0
"""Concatenated data sets."""

from dualfocus_ros.datasets.registry import open_dataset
from research.joined_dataset import join_datasets


def test_takes_evenly_spread_samples_of_each_set():
    sets = [open_dataset('shapes:1,count=5,size=64'), open_dataset('shapes:2,count=2,size=64')]
    both = join_datasets(sets, limit=3)
    assert [both[i].name for i in range(len(both))] == [
        'shapes-1-0',
        'shapes-1-1',
        'shapes-1-3',
        'shapes-2-0',
        'shapes-2-1',
    ]
    assert len(join_datasets(sets[:1], limit=2)) == 2
    assert join_datasets(sets[:1]).name == 'shapes:1,count=5,size=64'
