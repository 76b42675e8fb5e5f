# SPDX-License-Identifier: Apache-2.0
"""Find faults in lens readings: unusable ones, and those that cannot be part of a stack."""

from __future__ import annotations

import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.focal_stack import MAX_PLANES

MAX_FOCUS_DIOPTRES = 100.0
# Four of the largest sweeps: an image may arrive long after its command.
_MAX_COMMANDS = 4 * MAX_PLANES


def format_stamp(stamp_ns: int) -> str:
    """Return a stamp in seconds, to the nanosecond."""
    return f'{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000:09d}'


def check_reading(reading: LensReading) -> tuple[str, str] | None:
    """Return reason and text of a rejection if the reading is unusable, else None."""
    at = f'at {format_stamp(reading.stamp_ns)}'
    if not math.isfinite(reading.dioptres):
        return 'focus_unknown', f'the focus is not known {at}'
    if abs(reading.dioptres) > MAX_FOCUS_DIOPTRES:
        return 'focus_out_of_range', (
            f'{reading.dioptres:.1f} dioptres {at}; at most {MAX_FOCUS_DIOPTRES:.0f} are possible'
        )
    if reading.state == LensState.FAULT:
        return 'lens_fault', f'the lens reports a fault {at}'
    return None


class ReadingFilter:
    """Filter of moving lenses, invalid plane indices and lenses away from their command.

    :ivar commands: commanded dioptres by plane.
    """

    def __init__(self) -> None:
        self.commands: dict[tuple[int, int, int], float] = {}

    def add_command(self, target: PlaneTarget) -> None:
        """Store the commanded focus of a plane."""
        self.commands.pop(target.plane_id, None)
        self.commands[target.plane_id] = target.dioptres
        if len(self.commands) > _MAX_COMMANDS:
            del self.commands[next(iter(self.commands))]

    def find_fault(
        self, reading: LensReading, *, accept_moving: bool, command_tolerance: float
    ) -> tuple[str, str] | None:
        """Return reason and text if a frame of this reading is not for a stack, else None.

        :param command_tolerance: largest distance of a lens at rest to its command, in dioptres;
            0: any distance.
        """
        plane = f'plane {reading.plane_index}'
        if reading.moving and not accept_moving:
            return (
                'moving',
                f'the lens was moving at {reading.dioptres:.3f} dioptres (stack.accept_moving)',
            )
        if reading.plane_count > MAX_PLANES:
            return (
                'too_many_planes',
                f'sweep {reading.sweep_id} has {reading.plane_count} planes; at most {MAX_PLANES}',
            )
        if reading.plane_count and reading.plane_index >= reading.plane_count:
            return 'bad_plane_index', f'{plane} of a sweep of {reading.plane_count}'
        if reading.moving or not reading.plane_count:
            return None
        commanded = self.commands.get(reading.plane_id, math.nan)
        # False without a command: comparisons with NaN are false.
        if command_tolerance and abs(reading.dioptres - commanded) > command_tolerance:
            return (
                'off_command',
                f'{plane} of sweep {reading.sweep_id}: the lens was sent to {commanded:.3f} '
                f'dioptres and reports {reading.dioptres:.3f} (stack.command_tolerance)',
            )
        return None
