# SPDX-License-Identifier: Apache-2.0
"""Aberrations that vary over the image: cat's eyes, astigmatism, field curvature and tilt.

Mechanical vignetting cuts the blur spot into a cat's eye towards the corners; a tilted lens or a
curved field moves the focus. Both are computed at the nodes of a coarse grid and blended between
them, so that the spot changes smoothly over the image.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch

from dualfocus_ros.simulation.psf import OffAxis


@dataclass(frozen=True)
class FieldAberrations:
    """Aberrations as functions of (x, y), in half diagonals from the image centre.

    Focus distance: s(x, y) = s0 (1 + c1 rho^2 + c2 x) with rho^2 = x^2 + y^2. This curvature is
    relative to the focus distance; the calibrated one of
    :mod:`dualfocus_ros.camera.field_curvature` is an offset in dioptres.

    Cat's eye: a second disc of ``cat_eye_radius`` times the spot's radius cuts the spot. Its
    offset is ``cat_eye`` * (x, y) times the radius, in opposite directions before and beyond the
    focus.

    Astigmatism: an ellipse, ``astigmatism`` * rho^2 narrower than long, radial beyond the focus
    and tangential before it.

    :param cat_eye: tau, 0 for none.
    :param cat_eye_radius: k.
    :param astigmatism: value in the corners, where rho is 1; negative: tangential beyond the
        focus.
    :param curvature: c1.
    :param tilt: c2.
    :param tilt_direction: in radians: 0 tilts along x, pi/2 along y.
    :param infinity: focus value of infinity: 0 for dioptres, another one for another scale that
        is affine in dioptres.
    :param nodes: nodes along each side of the image, the outer ones on its border.
    :raises ValueError: for a value out of range.
    """

    cat_eye: float = 0.0
    cat_eye_radius: float = 1.0
    astigmatism: float = 0.0
    curvature: float = 0.0
    tilt: float = 0.0
    tilt_direction: float = 0.0
    infinity: float = 0.0
    nodes: int = 4

    def __post_init__(self) -> None:
        if not 0.0 <= self.cat_eye < 1.0:
            raise ValueError(f'cat_eye (tau) must be at least 0 and below 1, got {self.cat_eye}')
        if not 0.5 <= self.cat_eye_radius <= 2.0:
            raise ValueError(f'cat_eye_radius (k) must be 0.5 to 2, got {self.cat_eye_radius}')
        if not -0.8 <= self.astigmatism <= 0.8:
            raise ValueError(f'astigmatism must be -0.8 to 0.8, got {self.astigmatism}')
        if abs(self.curvature) + abs(self.tilt) > 0.5:
            raise ValueError(
                'curvature and tilt together must not move the focus by more than half of it, '
                f'got {self.curvature} and {self.tilt}'
            )
        if self.nodes < 2:
            raise ValueError(f'nodes must be at least 2, got {self.nodes}')

    @property
    def is_uniform(self) -> bool:
        """Whether there is no aberration."""
        clipped = self.cat_eye or self.cat_eye_radius < 1.0
        return not (clipped or self.astigmatism or self.curvature or self.tilt)

    def off_axis(self, x: float, y: float) -> OffAxis:
        """Return the shape of the blur spot at (x, y)."""
        squared = x * x + y * y
        cuts = self.cat_eye_radius < 1.0 + self.cat_eye * math.sqrt(squared)
        return OffAxis(
            stop=self.cat_eye_radius if cuts else math.inf,
            x=self.cat_eye * x,
            y=self.cat_eye * y,
            squeeze=self.astigmatism * squared,
            direction=math.atan2(y, x),
        )

    def focus(self, focus: torch.Tensor, x: float, y: float) -> torch.Tensor:
        """Return the inverse focus distance at (x, y), given ``focus`` in the centre."""
        along = math.cos(self.tilt_direction) * x + math.sin(self.tilt_direction) * y
        factor = 1.0 + self.curvature * (x * x + y * y) + self.tilt * along
        return self.infinity + (focus - self.infinity) / factor

    def focus_range(self, focus: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return bounds of :meth:`focus` over the image, in no particular order."""
        change = abs(self.curvature) + abs(self.tilt)
        relative = focus - self.infinity
        return self.infinity + relative / (1.0 - change), self.infinity + relative / (1.0 + change)


@dataclass(frozen=True, eq=False)
class FieldTile:
    """Part of an image around a node.

    :param rows: image rows, and ``columns`` the image columns, of the tile.
    :param weight: (h, w) bilinear weights; the weights of a pixel sum to 1 over all tiles.
    :param x: position of the node in half diagonals from the centre, to the right; ``y`` down.
    """

    rows: slice
    columns: slice
    weight: torch.Tensor
    x: float
    y: float


def field_tiles(nodes: int, height: int, width: int, device: torch.device) -> list[FieldTile]:
    """Return overlapping tiles around a grid of nodes, with bilinear weights."""
    half_diagonal = 0.5 * math.hypot(height - 1, width - 1) or 1.0
    tiles = []
    for top, rows, row_weights in _linear_weights(nodes, height, device):
        for left, columns, column_weights in _linear_weights(nodes, width, device):
            x = (left - 0.5 * (width - 1)) / half_diagonal
            y = (top - 0.5 * (height - 1)) / half_diagonal
            weight = row_weights[:, None] * column_weights[None, :]
            tiles.append(FieldTile(rows, columns, weight, x, y))
    return tiles


def _linear_weights(
    nodes: int, length: int, device: torch.device
) -> list[tuple[float, slice, torch.Tensor]]:
    """Return the coordinate, the pixels and their weights of each node along one side."""
    count = max(min(nodes, length), 1)
    if count == 1:
        return [(0.0, slice(0, length), torch.ones(length, device=device))]
    step = (length - 1) / (count - 1)
    pixels = torch.arange(length, device=device, dtype=torch.float32)
    centres = step * torch.arange(count, device=device)
    weights = (1.0 - (pixels[None] - centres[:, None]).abs() / step).clamp_min(0.0)
    # Normalize: rounding must not change the sum of a pixel's weights.
    weights = weights / weights.sum(dim=0, keepdim=True)
    found = []
    for index, weight in enumerate(weights):
        first = max(math.floor(step * (index - 1)), 0)
        last = min(math.ceil(step * (index + 1)) + 1, length)
        found.append((step * index, slice(first, last), weight[first:last]))
    return found
