# SPDX-License-Identifier: Apache-2.0
"""Driver units of a lens to dioptres and back, by a calibrated table."""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

# Dioptres by which a plane may miss the end of the table from being computed.
_ROUNDING = 1e-6


class PositionTable:
    """Positions of a lens in its driver's unit and the dioptres that they focus at.

    Piecewise linear between the entries, and nothing beyond them: where a voice coil or a motor
    was not calibrated it may do anything.

    :param positions: in the unit of the driver.
    :param dioptres: of the same length; both run strictly up or strictly down.
    :raises ValueError: naming what is wrong with the table.
    """

    def __init__(self, positions: Sequence[float], dioptres: Sequence[float]) -> None:
        if len(positions) != len(dioptres):
            raise ValueError(
                f'calibration: {len(positions)} positions but {len(dioptres)} dioptres; each '
                'position needs its dioptres'
            )
        if len(positions) < 2:
            raise ValueError(f'calibration: at least 2 entries are needed, got {len(positions)}')
        for name, numbers in (('positions', positions), ('dioptres', dioptres)):
            if not all(math.isfinite(number) for number in numbers):
                raise ValueError(f'calibration.{name}: not all are numbers: {list(numbers)}')
            steps = np.diff(np.asarray(numbers, np.float64))
            if not ((steps > 0.0).all() or (steps < 0.0).all()):
                raise ValueError(
                    f'calibration.{name}: must run strictly up or strictly down, got '
                    f'{list(numbers)}'
                )
        order = np.argsort(dioptres)
        self._dioptres = np.asarray(dioptres, np.float64)[order]
        self._positions = np.asarray(positions, np.float64)[order]

    @property
    def limits(self) -> tuple[float, float]:
        """The farthest and the nearest focus of the table in dioptres."""
        return float(self._dioptres[0]), float(self._dioptres[-1])

    def position(self, dioptres: float) -> float:
        """Return the position that focuses at so many dioptres.

        :raises ValueError: beyond the table.
        """
        far, near = self.limits
        if not far - _ROUNDING <= dioptres <= near + _ROUNDING:
            raise ValueError(
                f'{dioptres:g} dioptres are beyond the calibration, which covers {far:g} to '
                f'{near:g}: choose other planes, or calibrate that range too'
            )
        return float(np.interp(dioptres, self._dioptres, self._positions))

    def whole_position(self, dioptres: float) -> int:
        """Return the whole position nearest to a focus, for drivers that take no other.

        :raises ValueError: beyond the table.
        """
        ends = sorted((self._positions[0], self._positions[-1]))
        return min(max(round(self.position(dioptres)), math.ceil(ends[0])), math.floor(ends[1]))

    def dioptres(self, position: float) -> float:
        """Return the dioptres of a position; NaN beyond the table."""
        rising = self._positions[0] < self._positions[-1]
        positions, dioptres = (
            (self._positions, self._dioptres)
            if rising
            else (self._positions[::-1], self._dioptres[::-1])
        )
        return float(np.interp(position, positions, dioptres, math.nan, math.nan))
