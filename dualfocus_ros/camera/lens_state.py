# SPDX-License-Identifier: Apache-2.0
"""Lens positions in dioptres: where a lens is sent, and where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
import enum


class LensState(enum.IntEnum):
    """Lens activity during an exposure (``FocusState.state``)."""

    UNKNOWN = 0
    SETTLED = 1
    MOVING = 2
    FAULT = 3


class _InSweep:
    sweep_id: int
    plane_index: int
    plane_count: int

    @property
    def plane_id(self) -> tuple[int, int, int]:
        return self.sweep_id, self.plane_index, self.plane_count


@dataclass(frozen=True)
class PlaneTarget(_InSweep):
    """A commanded focus and its plane in a sweep (``FocusCommand``).

    :param dioptres: commanded focus in 1/m; NaN: unknown until the next command.
    :param plane_index: index of the plane in its sweep, from 0.
    :param plane_count: planes of the sweep; 0: not part of a sweep.
    :param stamp_ns: time of the command, by the clock that stamps the images; ignored by ``==``.
    """

    dioptres: float
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0
    stamp_ns: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LensReading(_InSweep):
    """The lens during one exposure (``FocusState``).

    :param stamp_ns: stamp of the image.
    :param dioptres: focus in 1/m; NaN: unknown. The plane is that of :class:`PlaneTarget`.
    """

    stamp_ns: int
    dioptres: float
    state: LensState = LensState.UNKNOWN
    sweep_id: int = 0
    plane_index: int = 0
    plane_count: int = 0

    @property
    def moving(self) -> bool:
        return self.state == LensState.MOVING
