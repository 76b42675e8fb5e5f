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
    """Shape of the aperture, and so of the blur spot.

    :param shape: ``disc``, ``gaussian`` (standard deviation half the radius of the circle of
        confusion) or ``polygon`` (regular, with the area of the disc).
    :param softness: standard deviation in pixels of a Gaussian convolved with the spot:
        diffraction, residual aberrations and the pixel area.
    :param blades: number of sides of the polygon.
    :param rotation: rotation of the polygon in radians.
    :param spherical: coefficient a of spherical aberration. Light at rho, the distance from the
        centre over the radius, has the weight 1 + a (2 rho^2 - 1) beyond the focus and
        1 - a (2 rho^2 - 1) before it: a bright rim on one side, a bright core on the other.
    :param focus_shift: focus shift by spherical aberration, per unit of ``spherical``, in the
        unit of focus (dioptres).
    :param chromatic: relative excess of the red spot's radius over the green one beyond the
        focus; blue is as much smaller, and before the focus red and blue swap.
    :raises ValueError: for an unknown shape or a value out of range.
    """

    shape: str = 'disc'
    softness: float = 0.5
    blades: int = 6
    rotation: float = 0.0
    spherical: float = 0.0
    focus_shift: float = 0.0
    chromatic: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f'aperture shape must be one of {SHAPES}, got {self.shape!r}')
        if not 0.0 <= self.softness <= 5.0:
            raise ValueError(f'aperture softness must be 0 to 5 pixels, got {self.softness}')
        if self.blades < 3:
            raise ValueError(f'a polygonal aperture has at least 3 blades, got {self.blades}')
        if not -1.0 <= self.spherical <= 1.0:
            raise ValueError(f'spherical aberration must be -1 to 1, got {self.spherical}')
        if self.spherical and self.shape == 'gaussian':
            raise ValueError('a gaussian spot has no rim for spherical aberration to light up')
        if not math.isfinite(self.focus_shift):
            raise ValueError(f'the focus shift must be finite, got {self.focus_shift}')
        if not -0.5 <= self.chromatic <= 0.5:
            raise ValueError(f'chromatic aberration must be -0.5 to 0.5, got {self.chromatic}')

    @property
    def apothem(self) -> float:
        """Inner radius of the polygon that has the area of the unit disc."""
        return math.sqrt(math.pi / (self.blades * math.tan(math.pi / self.blades)))

    def half_size(self, radius: float) -> int:
        """Return the half width in pixels of the kernel of a spot of ``radius``."""
        radius = max(abs(radius), MIN_RADIUS)
        if self.shape == 'gaussian':
            reach = _GAUSSIAN_EXTENT * 0.5 * radius
        elif self.shape == 'polygon':
            reach = radius * self.apothem / math.cos(math.pi / self.blades)
        else:
            reach = radius
        return math.ceil(reach) + math.ceil(_GAUSSIAN_EXTENT * self.softness)


@dataclass(frozen=True)
class OffAxis:
    """Shape of the blur spot of a point off the optical axis.

    :param stop: radius of a second round stop, the rim of the lens barrel, that cuts into the
        spot; in radii of the spot.
    :param x: offset of that stop to the right (``y``: downwards) for points beyond the focus, in
        radii; mirrored before the focus, as the whole spot is.
    :param squeeze: astigmatism: relative reduction of the width beyond the focus, and of the
        length before the focus.
    :param direction: direction of the length beyond the focus, in radians from x towards y.
    """

    stop: float = math.inf
    x: float = 0.0
    y: float = 0.0
    squeeze: float = 0.0
    direction: float = 0.0


def blur_kernels(
    radii: torch.Tensor,
    aperture: Aperture,
    half_size: int | None = None,
    *,
    off_axis: OffAxis | None = None,
) -> torch.Tensor:
    """Return the point spread functions for circles of confusion of the given radii.

    :param radii: (N,) signed radii in pixels; a negative one (nearer than the focus) mirrors the
        spot through its centre. Magnitudes below 0.5 count as 0.5.
    :param half_size: the kernels are 2 * half_size + 1 wide; by default as the largest needs.
    :param off_axis: shape off the axis; the kernels stay normalized.
    :returns: (N, K, K) weights, each kernel non-negative with the sum 1.
    :raises ValueError: for a second stop in a Gaussian spot, which has no edge.
    """
    off_axis = off_axis or OffAxis()
    if off_axis.stop < math.inf and aperture.shape == 'gaussian':
        raise ValueError('a gaussian spot has no edge to clip: choose another shape')
    radii = radii.to(torch.float32)
    size = radii.abs().clamp_min(MIN_RADIUS).view(-1, 1, 1)
    if half_size is None:
        half_size = aperture.half_size(float(size.max()))
    fine = _SUPERSAMPLING
    steps = torch.arange((2 * half_size + 1) * fine, device=radii.device, dtype=torch.float32)
    grid = (steps + 0.5) / fine - (half_size + 0.5)
    y, x = grid.view(1, -1, 1), grid.view(1, 1, -1)
    # Sign of the side of the focus, continuous through the focus.
    side = (radii / MIN_RADIUS).clamp(-1.0, 1.0).view(-1, 1, 1)
    if off_axis.squeeze != 0.0:
        y, x = _to_round_spot(y, x, side, off_axis)
    if aperture.shape == 'gaussian':
        weight = torch.exp(-2.0 * (x / size) ** 2) * torch.exp(-2.0 * (y / size) ** 2)
    else:
        rho, edge = torch.sqrt(y**2 + x**2), size
        if aperture.shape == 'polygon':
            mirror = torch.where(radii < 0.0, -1.0, 1.0).view(-1, 1, 1)
            rho = _polygon_distance(y * mirror, x * mirror, aperture)
            edge = size * aperture.apothem
        # A ramp one sub-sample wide makes the spot a continuous function of its radius.
        weight = ((edge - rho) * fine + 0.5).clamp(0.0, 1.0)
    if off_axis.stop < math.inf:
        shift = side * size
        distance = torch.sqrt((y - off_axis.y * shift) ** 2 + (x - off_axis.x * shift) ** 2)
        # Minimum instead of product: coincident edges stay one edge.
        stop = ((off_axis.stop * size - distance) * fine + 0.5).clamp(0.0, 1.0)
        weight = torch.minimum(weight, stop)
    if aperture.spherical != 0.0:
        squared = (y**2 + x**2) / size**2
        # The corners of a polygon lie beyond the disc of its area.
        weight = weight * (1.0 + aperture.spherical * side * (2.0 * squared.clamp_max(1.0) - 1.0))
    kernels = torch.nn.functional.avg_pool2d(weight[:, None], fine)[:, 0]
    if aperture.softness > 0.0:
        blur = _gaussian_matrix(2 * half_size + 1, aperture.softness, radii.device)
        kernels = blur @ kernels @ blur
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def _to_round_spot(
    y: torch.Tensor, x: torch.Tensor, side: torch.Tensor, off_axis: OffAxis
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map pixels of an elliptic spot to those of a round one; both (N, K, K)."""
    cosine, sine = math.cos(off_axis.direction), math.sin(off_axis.direction)
    signed = off_axis.squeeze * side
    along = (cosine * x + sine * y) / (1.0 - (-signed).clamp_min(0.0))
    across = (cosine * y - sine * x) / (1.0 - signed.clamp_min(0.0))
    return sine * along + cosine * across, cosine * along - sine * across


def _polygon_distance(y: torch.Tensor, x: torch.Tensor, aperture: Aperture) -> torch.Tensor:
    """Return the largest distance along the side normals; inside at most the apothem."""
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
