# SPDX-License-Identifier: Apache-2.0
"""Conversion of stamps."""

import pytest

from dualfocus_ros import stamps

pytest.importorskip('builtin_interfaces', reason='needs the ROS message packages')


def test_stamps_round_trip_exactly():
    nanoseconds = 1_700_000_123_456_789_012
    assert stamps.to_ns(stamps.to_stamp(nanoseconds)) == nanoseconds
