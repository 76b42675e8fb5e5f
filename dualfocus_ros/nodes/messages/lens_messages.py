# SPDX-License-Identifier: Apache-2.0
"""Parse messages about the lens: ``FocusState``, ``FocusCommand`` and libcamera metadata.

Messages of rclpy and of rosbags; without rclpy.
"""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.stamps import to_ns


def lens_reading_from_msg(msg: Any) -> LensReading:
    """Return the reading in a ``FocusState`` message; unknown states become UNKNOWN."""
    try:
        state = LensState(msg.state)
    except ValueError:
        state = LensState.UNKNOWN
    return LensReading(
        to_ns(msg.header.stamp),
        float(msg.focus_dioptres),
        state,
        msg.sweep_id,
        msg.plane_index,
        msg.plane_count,
    )


def plane_target_from_msg(msg: Any, now_ns: int) -> PlaneTarget:
    """Return the target in a ``FocusCommand`` message.

    :param now_ns: stamp of a message without one.
    """
    return PlaneTarget(
        float(msg.focus_dioptres),
        msg.sweep_id,
        msg.plane_index,
        msg.plane_count,
        to_ns(msg.header.stamp) or now_ns,
    )


def frame_metadata(msg: Any) -> dict[str, str]:
    """Return the frame metadata in a ``DiagnosticArray`` of camera_ros; empty: none.

    camera_ros publishes them on /diagnostics by default, with an empty status name; statuses of
    other nodes on that topic have names and are ignored.
    """
    return {
        value.key: value.value
        for status in msg.status
        if not status.name
        for value in status.values
    }


def lens_position(metadata: Mapping[str, str]) -> float | None:
    """Return the lens position in dioptres from frame metadata.

    :returns: None without the key; NaN where its value is not a number.
    """
    value = metadata.get('LensPosition')
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return math.nan
