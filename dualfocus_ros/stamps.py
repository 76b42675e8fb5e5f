# SPDX-License-Identifier: Apache-2.0
"""Conversion between ``builtin_interfaces/msg/Time`` and nanoseconds."""

from __future__ import annotations

from typing import Any


def to_ns(stamp: Any) -> int:
    """Return a stamp of rclpy or rosbags in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_stamp(nanoseconds: int) -> Any:
    """Return nanoseconds as a stamp of rclpy, exactly."""
    from builtin_interfaces.msg import Time

    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)
