# SPDX-License-Identifier: Apache-2.0
"""Suppression of repeated warnings."""

from dualfocus_ros.nodes.lens_control.notices import Notice, NoticeQueue


def test_repeated_warning_is_queued_once_until_it_pauses():
    notices = NoticeQueue()
    assert notices.warn('gone', 0.0)
    assert not notices.warn('gone', 30.0)
    assert not notices.warn('gone', 90.0)  # the pause counts from the last occurrence
    assert notices.warn('gone', 151.0)
    assert notices.take_all() == [Notice(True, 'gone')] * 2
    assert notices.take_all() == []


def test_messages_keep_their_order():
    notices = NoticeQueue()
    notices.info('ready')
    notices.warn('gone', 0.0)
    notices.info('ready')
    assert [notice.text for notice in notices.take_all()] == ['ready', 'gone', 'ready']
