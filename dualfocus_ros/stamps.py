# SPDX-License-Identifier: Apache-2.0
"""Conversion between ``builtin_interfaces/msg/Time`` and nanoseconds."""

from __future__ import annotations

import struct
from typing import Any


def to_ns(stamp: Any) -> int:
    """Return a stamp of rclpy or rosbags in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_stamp(nanoseconds: int) -> Any:
    """Return nanoseconds as a stamp of rclpy, exactly."""
    from builtin_interfaces.msg import Time

    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def read_header_stamp(data: bytes) -> int:
    """Return the stamp of a serialised message that begins with a header, in nanoseconds."""
    # CDR: four bytes of encapsulation, the second is 1 for little endian; then the stamp.
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
