# SPDX-License-Identifier: Apache-2.0
"""Field curvature: a lens focused at u dioptres on the axis focuses at u + c2 r^2 + c4 r^4.

r is the distance of a pixel from the principal point in half diagonals of the image. The Petzval
surface has a constant offset on the image side; as 1/d = 1/F - 1/v, it is nearly constant in
dioptres at every focus. So c2 and c4 are in 1/m.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np


def check_coefficients(coefficients: Sequence[float]) -> None:
    """Raise ValueError unless the coefficients are two finite numbers, c2 and c4."""
    if len(coefficients) != 2 or not np.isfinite(coefficients).all():
        raise ValueError(
            'expected two numbers, finite c2 and c4 in dioptres at the corner of the image, '
            f'got {list(coefficients)}'
        )


def field_curvature_offset(
    squared_radius: np.ndarray, coefficients: Sequence[float]
) -> np.ndarray:
    """Return c2 r^2 + c4 r^4 at the given r^2: the focus relative to the axis, in dioptres."""
    c2, c4 = coefficients
    return np.asarray((c2 + c4 * squared_radius) * squared_radius)


def half_diagonal(height: int, width: int) -> float:
    """Return the unit of r, in pixels."""
    return 0.5 * math.hypot(height, width)


def field_curvature_map(
    height: int,
    width: int,
    coefficients: Sequence[float],
    centre: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return :func:`field_curvature_offset` of each pixel, (H, W) float32.

    :param centre: principal point x, y in pixels; by default the image centre.
    """
    cx, cy = centre or (0.5 * (width - 1), 0.5 * (height - 1))
    unit = half_diagonal(height, width)
    x, y = (np.arange(width) - cx) / unit, (np.arange(height) - cy) / unit
    return field_curvature_offset(y[:, None] ** 2 + x**2, coefficients).astype(np.float32)
