# SPDX-License-Identifier: Apache-2.0
"""Input files of the focus scale: pairs of position and distance, and position tables."""

from __future__ import annotations

from pathlib import Path

from dualfocus_ros.calibration.parameter_file import read_numbers
from dualfocus_ros.camera.position_table import PositionTable
from dualfocus_ros.exceptions import ConfigError


def read_pairs(path: Path) -> tuple[list[float], list[float]]:
    """Read lens positions in driver units and target distances in metres.

    A line has a position and a distance, separated by spaces, commas or semicolons; ``#`` starts
    a comment. The first line may hold column names.

    :raises ConfigError: for an unreadable file or a malformed line.
    """
    try:
        lines = path.read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'{path} is neither DISTANCE=SWEEP nor a readable text file of pairs: {error}'
        ) from None
    positions: list[float] = []
    distances: list[float] = []
    for number, line in enumerate(lines, start=1):
        words = line.split('#')[0].replace(',', ' ').replace(';', ' ').split()
        if not words:
            continue
        try:
            position, distance = (float(word) for word in words)
        except ValueError:
            if not positions and number == 1:
                continue  # column names
            raise ConfigError(
                f'{path}, line {number}: expected a position and a distance in metres, got '
                f'{line.strip()!r}'
            ) from None
        if not distance > 0.0:
            raise ConfigError(
                f'{path}, line {number}: the distance must be positive, got {distance}'
            )
        positions.append(position)
        distances.append(distance)
    return positions, distances


def read_position_table(path: Path) -> PositionTable:
    """Read ``calibration.positions`` and ``calibration.dioptres`` of a parameter file.

    :raises ValueError: for an unreadable file or an invalid table.
    """
    return PositionTable(
        read_numbers(path, 'calibration.positions'), read_numbers(path, 'calibration.dioptres')
    )
