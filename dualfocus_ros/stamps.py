# SPDX-License-Identifier: Apache-2.0
"""Stamps of messages, of rclpy or rosbags alike."""

from __future__ import annotations

from typing import Any


def to_ns(stamp: Any) -> int:
    """Return a ``builtin_interfaces/Time`` in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
