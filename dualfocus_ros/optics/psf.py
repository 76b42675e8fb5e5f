# SPDX-License-Identifier: Apache-2.0
"""Point spread functions of a defocused lens, sampled on the pixel grid."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch

SHAPES = ('disc', 'gaussian', 'polygon')
MIN_RADIUS = 0.5
_SUPERSAMPLING = 4
_GAUSSIAN_EXTENT = 3.0


@dataclass(frozen=True)
class Aperture:
    """The form of the aperture, and so of the blur spot.

    :param shape: ``disc``, ``gaussian`` (standard deviation half the radius of the circle of
        confusion) or ``polygon`` (regular, with the area of the disc).
    :param softness: standard deviation in pixels of the Gaussian that the spot is convolved
        with: diffraction, residual aberrations and the pixel's own area.
    :param blades: number of sides of the polygon.
    :param rotation: rotation of the polygon in radians.
    :raises ValueError: for an unknown shape or a value out of range.
    """

    shape: str = 'disc'
    softness: float = 0.5
    blades: int = 6
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f'aperture shape must be one of {SHAPES}, got {self.shape!r}')
        if not 0.0 <= self.softness <= 5.0:
            raise ValueError(f'aperture softness must be 0 to 5 pixels, got {self.softness}')
        if self.blades < 3:
            raise ValueError(f'a polygonal aperture has at least 3 blades, got {self.blades}')

    @property
    def apothem(self) -> float:
        """Inner radius of the polygon that has the area of the unit disc."""
        return math.sqrt(math.pi / (self.blades * math.tan(math.pi / self.blades)))

    def half_size(self, radius: float) -> int:
        """Return the number of pixels by which a spot of ``radius`` reaches from its centre."""
        radius = max(abs(radius), MIN_RADIUS)
        if self.shape == 'gaussian':
            reach = _GAUSSIAN_EXTENT * 0.5 * radius
        elif self.shape == 'polygon':
            reach = radius * self.apothem / math.cos(math.pi / self.blades)
        else:
            reach = radius
        return math.ceil(reach) + math.ceil(_GAUSSIAN_EXTENT * self.softness)


def spot(radii: torch.Tensor, aperture: Aperture, half_size: int | None = None) -> torch.Tensor:
    """Return the point spread functions for circles of confusion of the given radii.

    :param radii: (N,) signed radius in pixels; a negative one (nearer than the focus) mirrors
        the spot through its centre. Never taken smaller than 0.5.
    :param half_size: the kernels are 2 * half_size + 1 wide; by default as the largest needs.
    :returns: (N, K, K) weights, each kernel non-negative with the sum 1.
    """
    radii = radii.to(torch.float32)
    size = radii.abs().clamp_min(MIN_RADIUS).view(-1, 1, 1)
    if half_size is None:
        half_size = aperture.half_size(float(size.max()))
    fine = _SUPERSAMPLING
    steps = torch.arange((2 * half_size + 1) * fine, device=radii.device, dtype=torch.float32)
    grid = (steps + 0.5) / fine - (half_size + 0.5)
    if aperture.shape == 'gaussian':
        rows = torch.exp(-2.0 * (grid.view(1, 1, -1) / size) ** 2)
        weight = rows.transpose(1, 2) * rows
    else:
        if aperture.shape == 'disc':
            rho = torch.sqrt(grid.view(-1, 1) ** 2 + grid.view(1, -1) ** 2)[None]
            edge = size
        else:
            mirror = torch.where(radii < 0.0, -1.0, 1.0).view(-1, 1, 1)
            rho = _polygon_distance(grid.view(1, -1, 1) * mirror, grid * mirror, aperture)
            edge = size * aperture.apothem
        # A ramp one sub-sample wide makes the spot change steadily with its radius.
        weight = ((edge - rho) * fine + 0.5).clamp(0.0, 1.0)
    kernels = torch.nn.functional.avg_pool2d(weight[:, None], fine)[:, 0]
    if aperture.softness > 0.0:
        blur = _gaussian_matrix(2 * half_size + 1, aperture.softness, radii.device)
        kernels = blur @ kernels @ blur
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def _polygon_distance(y: torch.Tensor, x: torch.Tensor, aperture: Aperture) -> torch.Tensor:
    """Return the largest distance along the side normals: at most the apothem inside."""
    distance = torch.full((1, 1, 1), -math.inf, device=x.device)
    for side in range(aperture.blades):
        angle = aperture.rotation + 2.0 * math.pi * side / aperture.blades
        distance = torch.maximum(distance, math.cos(angle) * x + math.sin(angle) * y)
    return distance


def _gaussian_matrix(size: int, sigma: float, device: torch.device) -> torch.Tensor:
    """Return the (size, size) symmetric matrix that convolves a vector with a Gaussian."""
    index = torch.arange(size, device=device, dtype=torch.float32)
    offset = (index[:, None] - index[None, :]).abs()
    matrix = torch.exp(-0.5 * (offset / sigma) ** 2)
    return matrix * (offset <= math.ceil(_GAUSSIAN_EXTENT * sigma))
