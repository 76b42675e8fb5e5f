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
    :param spherical: a of spherical aberration: light at rho, the distance from the centre over
        the radius, has the weight 1 + a (2 rho^2 - 1) beyond the focus and 1 - a (2 rho^2 - 1)
        before it, so that the spot has a bright rim on one side and a bright core on the other.
    :param focus_shift: how far spherical aberration moves the focus, per unit of ``spherical``,
        in the unit of focus (dioptres).
    :param chromatic: how much larger the spot of red is than that of green beyond the focus,
        relative; blue is as much smaller, and before the focus it is the other way round.
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
        """Return the number of pixels by which a spot of ``radius`` reaches from its centre."""
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
    """What the spot of a point off the optical axis has that one on the axis has not.

    :param stop: radius of a second round stop that cuts into the spot, in radii of the spot: the
        rim of the lens barrel.
    :param x: centre of that stop in the spot of a point beyond the focus, in radii, to the right;
        before the focus it lies on the other side, as everything mirrors through the focus.
    :param y: the same, downwards.
    :param squeeze: by how much the spot is narrower than long beyond the focus, relative; before
        the focus it is as much shorter along the same direction (astigmatism).
    :param direction: of its length beyond the focus, in radians from x towards y.
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

    :param radii: (N,) signed radius in pixels; a negative one (nearer than the focus) mirrors
        the spot through its centre. Never taken smaller than 0.5.
    :param half_size: the kernels are 2 * half_size + 1 wide; by default as the largest needs.
    :param off_axis: what differs from a spot on the axis; no light is lost by it.
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
    # The side of the focus, with a steady passage through it.
    side = (radii / MIN_RADIUS).clamp(-1.0, 1.0).view(-1, 1, 1)
    if off_axis.squeeze != 0.0:
        y, x = _unsqueezed(y, x, side, off_axis)
    if aperture.shape == 'gaussian':
        weight = torch.exp(-2.0 * (x / size) ** 2) * torch.exp(-2.0 * (y / size) ** 2)
    else:
        if aperture.shape == 'disc':
            rho = torch.sqrt(y**2 + x**2)
            edge = size
        else:
            mirror = torch.where(radii < 0.0, -1.0, 1.0).view(-1, 1, 1)
            rho = _polygon_distance(y * mirror, x * mirror, aperture)
            edge = size * aperture.apothem
        # A ramp one sub-sample wide makes the spot change steadily with its radius.
        weight = ((edge - rho) * fine + 0.5).clamp(0.0, 1.0)
    if off_axis.stop < math.inf:
        shift = side * size
        away = torch.sqrt((y - off_axis.y * shift) ** 2 + (x - off_axis.x * shift) ** 2)
        # The smaller, not the product: where both edges coincide, there is one edge.
        stop = ((off_axis.stop * size - away) * fine + 0.5).clamp(0.0, 1.0)
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


def _unsqueezed(
    y: torch.Tensor, x: torch.Tensor, side: torch.Tensor, off_axis: OffAxis
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where in a round spot the pixels of a squeezed one lie, each (N, K, K)."""
    cosine, sine = math.cos(off_axis.direction), math.sin(off_axis.direction)
    signed = off_axis.squeeze * side
    along = (cosine * x + sine * y) / (1.0 - (-signed).clamp_min(0.0))
    across = (cosine * y - sine * x) / (1.0 - signed.clamp_min(0.0))
    return sine * along + cosine * across, cosine * along - sine * across


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
