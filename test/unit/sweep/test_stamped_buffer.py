# SPDX-License-Identifier: Apache-2.0
"""Buffer of messages by stamp."""

from dualfocus_ros.sweep.stamped_buffer import StampedBuffer


def filled(*stamps):
    """Return a buffer with an item at each stamp."""
    buffer = StampedBuffer()
    for stamp in stamps:
        buffer.add(stamp, str(stamp))
    return buffer


def test_passed_by_more_than_the_window():
    buffer = filled(100)
    assert buffer.has_passed(99) and not buffer.has_passed(100)
    assert buffer.has_passed(89, window=10) and not buffer.has_passed(90, window=10)
    assert not StampedBuffer().has_passed(0)


def test_removal_by_stamp():
    buffer = filled(10, 20, 30)
    buffer.remove_before(20)
    assert list(buffer.items) == [20, 30]
    buffer.remove_after(20)
    assert list(buffer.items) == [20] and buffer.newest == 20
    buffer.clear()
    assert not buffer.items and buffer.newest is None


def test_overdue_items_by_the_clock():
    buffer = filled(10)
    assert buffer.overdue(1000, 5) == set()
    buffer.add(20, '20')
    assert buffer.overdue(1004, 5) == set()
    assert buffer.overdue(1006, 5) == {10}
    assert buffer.overdue(0, 5) == set()  # the clock was set back
    assert buffer.overdue(6, 5) == {10, 20}
