# SPDX-License-Identifier: Apache-2.0
"""Status of the connection to a camera driver."""

from __future__ import annotations

from dataclasses import dataclass
import enum


class DriverState(enum.Enum):
    """Driver connection state."""

    ABSENT = 'absent'
    SETTING_UP = 'setting up'
    READY = 'ready'
    UNRESPONSIVE = 'unresponsive'
    UNSUPPORTED = 'unsupported'


@dataclass
class DriverClientCounts:
    """Counts since the start."""

    calls: int = 0
    timeouts: int = 0
    set_ups: int = 0
    positions: int = 0
    refused: int = 0
