# SPDX-License-Identifier: Apache-2.0
"""What defocus does differently from place to place in the image.

Mechanical vignetting gives the blur spot the form of a cat's eye towards the corners; a tilted
lens or a curved field moves the focus. Both are computed at nodes of a coarse grid and blended
between them, so that the spot changes steadily over the image.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch

from dualfocus_ros.simulation.psf import OffAxis


@dataclass(frozen=True)
class FieldAberrations:
    """Aberrations that depend on the place (x, y), in half diagonals from the image's centre.

    The focus distance is s(x, y) = s0 (1 + c1 rho^2 + c2 x) with rho^2 = x^2 + y^2; the spot is
    cut by a second disc of ``cat_eye_radius`` times its radius, moved by ``cat_eye`` * (x, y)
    times its radius, in opposite directions before and beyond the focus. Astigmatism makes it an
    ellipse, ``astigmatism`` * rho^2 narrower than long, radial beyond the focus and tangential
    before it.

    :param cat_eye: tau, 0 for none.
    :param cat_eye_radius: k.
    :param astigmatism: of the corners, where rho is 1; negative: tangential beyond the focus.
    :param curvature: c1.
    :param tilt: c2.
    :param tilt_direction: in radians: 0 tilts along x, pi/2 along y.
    :param infinity: the value of the focus scale that means infinity: 0 for dioptres, something
        else for another scale that is affine in them.
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
            raise ValueError(f'a field needs at least 2 nodes a side, got {self.nodes}')

    @property
    def is_uniform(self) -> bool:
        """Whether the image is the same as without."""
        stopped = self.cat_eye or self.cat_eye_radius < 1.0
        return not (stopped or self.astigmatism or self.curvature or self.tilt)

    def off_axis(self, x: float, y: float) -> OffAxis:
        """Return what the spot at (x, y) has that one on the axis of a wide lens has not."""
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
        """Return the inverse focus distance at (x, y) where it is ``focus`` in the centre."""
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
    """The part of an image that a node has a say in.

    :param rows: of the image.
    :param columns: of the image.
    :param weight: (h, w) share of the node; over all tiles the shares of a pixel add up to 1.
    :param x: place of the node in half diagonals from the centre.
    :param y: the same, downwards.
    """

    rows: slice
    columns: slice
    weight: torch.Tensor
    x: float
    y: float


def field_tiles(nodes: int, height: int, width: int, device: torch.device) -> list[FieldTile]:
    """Return overlapping tiles around a grid of nodes, with bilinear shares."""
    half_diagonal = 0.5 * math.hypot(height - 1, width - 1) or 1.0
    out = []
    for top, rows, down in _hats(nodes, height, device):
        for left, columns, right in _hats(nodes, width, device):
            x = (left - 0.5 * (width - 1)) / half_diagonal
            y = (top - 0.5 * (height - 1)) / half_diagonal
            out.append(FieldTile(rows, columns, down[:, None] * right[None, :], x, y))
    return out


def _hats(
    nodes: int, length: int, device: torch.device
) -> list[tuple[float, slice, torch.Tensor]]:
    """Return per node its coordinate, the pixels that it reaches and its share of each."""
    count = max(min(nodes, length), 1)
    if count == 1:
        return [(0.0, slice(0, length), torch.ones(length, device=device))]
    step = (length - 1) / (count - 1)
    pixels = torch.arange(length, device=device, dtype=torch.float32)
    at = step * torch.arange(count, device=device)
    shares = (1.0 - (pixels[None] - at[:, None]).abs() / step).clamp_min(0.0)
    # Rounding must not make the shares of a pixel add up to anything but 1.
    shares = shares / shares.sum(dim=0, keepdim=True)
    out = []
    for index, share in enumerate(shares):
        first = max(math.floor(step * (index - 1)), 0)
        last = min(math.ceil(step * (index + 1)) + 1, length)
        out.append((step * index, slice(first, last), share[first:last]))
    return out
