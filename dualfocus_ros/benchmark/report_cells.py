# SPDX-License-Identifier: Apache-2.0
"""Access to the times of a method at one stack shape, in a benchmark report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cell = Mapping[str, Any]
NETWORK_STAGES = ('encode', 'decode', 'network')


def base_cell(method: Mapping[str, Any], report: Mapping[str, Any]) -> Cell:
    """Return the times of a method at the base shape."""
    base = report['base']
    found: Cell = next(
        cell
        for cell in method['cells']
        if all(cell[key] == base[key] for key in ('planes', 'width', 'height'))
    )
    return found


def stage_ms(cell: Cell, name: str) -> float:
    """Return the median time of a stage, 0 if it is absent."""
    stage = cell['stages'].get(name)
    return 0.0 if stage is None else float(stage['p50'])


def network_ms(cell: Cell) -> float:
    """Return the median time of the network: encoding and decoding, or the plain call."""
    return sum(stage_ms(cell, name) for name in NETWORK_STAGES)
