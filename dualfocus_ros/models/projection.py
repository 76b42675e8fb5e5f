# SPDX-License-Identifier: Apache-2.0
"""Integrable projection: the least-squares surface of a gradient field.

DualFocus section 3.2 (arXiv 2509.21992): z* = argmin_z ||P z - Gamma||^2 with P the fixed
one-hop forward-difference operator of the pixel grid. P^T P is the Kronecker sum of two
path-graph Laplacians. The orthonormal DCT-II diagonalises it exactly, so that the minimum-norm
solution (zero mean) takes four small matrix products and no stored inverse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

# C_H, C_W and inverse eigenvalues of one grid size; the cache is bounded in grid sizes.
Basis = tuple[Tensor, Tensor, Tensor]
_BASIS_CACHE_SIZE = 32
_basis_cache: dict[tuple[int, int, torch.dtype, torch.device], Basis] = {}


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, (size, size) float64: coefficients = C @ signal."""
    k = torch.arange(size, dtype=torch.float64)[:, None]
    x = torch.arange(size, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * k * (2.0 * x + 1.0) / (2.0 * size)) * math.sqrt(2.0 / size)
    matrix[0] *= math.sqrt(0.5)
    return matrix


def _basis(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Basis:
    """Return C_H, C_W and the inverse eigenvalues of P^T P (0 for the constant)."""
    key = (height, width, dtype, device)
    if (known := _basis_cache.get(key)) is not None:
        return known
    rows, columns = (
        2.0 - 2.0 * torch.cos(math.pi * torch.arange(size, dtype=torch.float64) / size)
        for size in (height, width)
    )
    inverse = 1.0 / (rows[:, None] + columns)
    inverse[0, 0] = 0.0
    # Inference tensors in the cache would break later training in the same process.
    with torch.inference_mode(False):
        basis = (
            dct_matrix(height).to(device, dtype),
            dct_matrix(width).to(device, dtype),
            inverse.clone().to(device, dtype),
        )
    # Do not cache the fake tensors of a traced graph: they have no values.
    if all(type(matrix) is Tensor for matrix in basis):
        while len(_basis_cache) >= _BASIS_CACHE_SIZE:
            _basis_cache.pop(next(iter(_basis_cache)), None)
        _basis_cache[key] = basis
    return basis


def forward_differences(z: Tensor) -> tuple[Tensor, Tensor]:
    """Apply P: differences to the neighbours right and below, zero at the far border.

    :param z: (..., H, W).
    :returns: (dx, dy), each (..., H, W); the last column of dx and the last row of dy are 0.
    """
    dx = torch.zeros_like(z)
    dy = torch.zeros_like(z)
    dx[..., :, :-1] = z[..., :, 1:] - z[..., :, :-1]
    dy[..., :-1, :] = z[..., 1:, :] - z[..., :-1, :]
    return dx, dy


def _adjoint(gx: Tensor, gy: Tensor) -> Tensor:
    """Apply P^T (negative divergence, no flux through the border) to (..., H, W) fields."""
    # P has no rows for neighbours outside the grid: ignore the last column and row of Gamma.
    gx = gx[..., :, :-1]
    gy = gy[..., :-1, :]
    return (pad(gx, (1, 0)) - pad(gx, (0, 1))) + (pad(gy, (0, 0, 1, 0)) - pad(gy, (0, 0, 0, 1)))


def integrate(gx: Tensor, gy: Tensor) -> Tensor:
    """Return the zero-mean surface whose forward differences are nearest to (gx, gy).

    Computes in float32 even under autocast (float64 stays float64), since the condition number of
    P^T P grows with the square of the image side.

    :param gx: (..., H, W) differences to the right neighbour; the last column is ignored.
    :param gy: (..., H, W) differences to the neighbour below; the last row is ignored.
    :returns: (..., H, W) surface, P^+ Gamma of equation z* = argmin ||P z - Gamma||^2.
    :raises ValueError: if the two fields differ in shape.
    """
    if gx.shape != gy.shape:
        raise ValueError(f'gradient fields differ in shape: {tuple(gx.shape)}, {tuple(gy.shape)}')
    dtype = torch.float64 if gx.dtype == torch.float64 else torch.float32
    height, width = gx.shape[-2:]
    c_h, c_w, inverse = _basis(height, width, dtype, gx.device)
    with torch.autocast(gx.device.type, enabled=False):
        b = _adjoint(gx.to(dtype), gy.to(dtype))
        coefficients = c_h @ b @ c_w.T
        return c_h.T @ (coefficients * inverse) @ c_w
