# SPDX-License-Identifier: Apache-2.0
"""Random focal stack in the form of a recorded sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualfocus_ros.datasets.samples import StackSample


def recorded_stack(
    unit: str = 'metres',
    focus: Sequence[float] = (0.5, 1.0, 2.0),
    truth: float | None = 1.0,
    shape: tuple[int, int] = (32, 32),
    **fields: Any,
) -> StackSample:
    """Return a sample with random images and constant truth."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(focus), *shape, 3), dtype=np.uint8)
    depth = None if truth is None else np.full(shape, truth, np.float32)
    return StackSample('s', images, np.array(focus, dtype=float), unit, depth, **fields)
