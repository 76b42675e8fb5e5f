# SPDX-License-Identifier: Apache-2.0
"""Reject frames whose lens reading cannot be part of a stack."""

from __future__ import annotations

import math

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.focal_stack import MAX_PLANES
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

# Four of the largest sweeps: an image may arrive long after its command.
_MAX_COMMANDS = 4 * MAX_PLANES


class ReadingFilter:
    """Filter of moving lenses, invalid plane indices and lenses away from their command.

    :param stage_counter: counts the rejections.
    """

    def __init__(self, stage_counter: StageCounter) -> None:
        self._stage_counter = stage_counter
        self._commands: dict[tuple[int, int, int], float] = {}

    @property
    def command_count(self) -> int:
        """Number of stored commands."""
        return len(self._commands)

    def add_command(self, target: PlaneTarget) -> None:
        """Store the commanded focus of a plane."""
        self._commands.pop(target.plane_id, None)
        self._commands[target.plane_id] = target.dioptres
        if len(self._commands) > _MAX_COMMANDS:
            del self._commands[next(iter(self._commands))]

    def clear(self) -> None:
        """Forget all commands."""
        self._commands.clear()

    def accepts(
        self, reading: LensReading, *, accept_moving: bool, command_tolerance: float
    ) -> bool:
        """Return whether a frame of this reading may be part of a stack; count a rejection.

        :param command_tolerance: largest distance of a lens at rest to its command, in dioptres;
            0: any distance.
        """
        rejection = self._find_fault(reading, accept_moving, command_tolerance)
        if rejection is None:
            return True
        self._stage_counter.reject(Stage.STACKED, *rejection)
        return False

    def _find_fault(
        self, reading: LensReading, accept_moving: bool, command_tolerance: float
    ) -> tuple[str, str] | None:
        """Return reason and text of a rejection, or None."""
        if reading.state == LensState.MOVING and not accept_moving:
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
            return (
                'bad_plane_index',
                f'plane {reading.plane_index} of a sweep of {reading.plane_count}',
            )
        if reading.state == LensState.MOVING or not reading.plane_count:
            return None
        commanded = self._commands.get(reading.plane_id, math.nan)
        # False without a command: comparisons with NaN are false.
        if command_tolerance and abs(reading.dioptres - commanded) > command_tolerance:
            return (
                'off_command',
                f'plane {reading.plane_index} of sweep {reading.sweep_id}: the lens was sent to '
                f'{commanded:.3f} dioptres and reports {reading.dioptres:.3f} '
                '(stack.command_tolerance)',
            )
        return None
