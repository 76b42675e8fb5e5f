# SPDX-License-Identifier: Apache-2.0
"""Conversion between lens positions in driver units and dioptres, by a calibrated table."""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

# Tolerance in dioptres beyond the table, for the rounding of computed planes.
_ROUNDING = 1e-6


class PositionTable:
    """Lens positions in driver units and their focus.

    Piecewise linear between the entries, undefined beyond them.

    :param positions: lens positions in the unit of the driver.
    :param dioptres: focus at these positions in 1/m; both sequences increase or decrease strictly.
    :raises ValueError: for an invalid table.
    """

    def __init__(self, positions: Sequence[float], dioptres: Sequence[float]) -> None:
        if len(positions) != len(dioptres):
            raise ValueError(
                f'calibration: {len(positions)} positions but {len(dioptres)} dioptres; give one '
                'for each position'
            )
        if len(positions) < 2:
            raise ValueError(f'calibration: at least 2 entries are needed, got {len(positions)}')
        for name, numbers in (('positions', positions), ('dioptres', dioptres)):
            start, got = f'calibration.{name}: must', f'got {list(numbers)}'
            if not all(math.isfinite(number) for number in numbers):
                raise ValueError(f'{start} be finite numbers, {got}')
            steps = np.diff(np.asarray(numbers, np.float64))
            if not ((steps > 0.0).all() or (steps < 0.0).all()):
                raise ValueError(f'{start} increase or decrease strictly, {got}')
        order = np.argsort(dioptres)
        self._dioptres = np.asarray(dioptres, np.float64)[order]
        self._positions = np.asarray(positions, np.float64)[order]

    @property
    def dioptre_range(self) -> tuple[float, float]:
        """Farthest and nearest focus of the table in dioptres."""
        return float(self._dioptres[0]), float(self._dioptres[-1])

    def position(self, dioptres: float) -> float:
        """Return the position of a focus in dioptres; ValueError beyond the table."""
        far, near = self.dioptre_range
        if not far - _ROUNDING <= dioptres <= near + _ROUNDING:
            raise ValueError(
                f'{dioptres:g} dioptres are beyond the calibration, which covers {far:g} to '
                f'{near:g}: choose other planes, or extend the calibration'
            )
        return float(np.interp(dioptres, self._dioptres, self._positions))

    def whole_position(self, dioptres: float) -> int:
        """Return the nearest integer position of a focus, inside of the table."""
        ends = sorted((self._positions[0], self._positions[-1]))
        return min(max(round(self.position(dioptres)), math.ceil(ends[0])), math.floor(ends[1]))

    def dioptres(self, position: float) -> float:
        """Return the focus at a position in dioptres; NaN beyond the table."""
        order = np.argsort(self._positions)
        positions, dioptres = self._positions[order], self._dioptres[order]
        return float(np.interp(position, positions, dioptres, math.nan, math.nan))
