# SPDX-License-Identifier: Apache-2.0
"""Counts and rejections by stage."""

from dualfocus_ros.sweep.stage_counter import Stage, StageCounter


def test_counts_and_rejections():
    counter = StageCounter()
    counter.count(Stage.MATCHED)
    counter.reject(Stage.MATCHED, 'late', 'first')
    counter.reject(Stage.STACKED, 'moving', 'second')
    counter.reject(Stage.MATCHED, 'late', 'third')
    counts = counter.snapshot()
    assert (counts.counts[Stage.MATCHED], counts.counts[Stage.STACKED]) == (1, 0)
    assert (counts.rejected('late'), counts.rejected('moving'), counts.rejected('none')) == (
        2,
        1,
        0,
    )
    assert (counts.last.reason, counts.last.text, counts.last.stage) == (
        'late',
        'third',
        Stage.MATCHED,
    )


def test_snapshot_is_independent_of_later_counts():
    counter = StageCounter()
    before = counter.snapshot()
    counter.reject(Stage.VALID, 'late', '')
    assert before.last is None and before.rejections == ()
