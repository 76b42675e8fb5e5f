# SPDX-License-Identifier: Apache-2.0
"""Layered defocus renderer for batches of scenes, without device synchronization.

Same method and images as :mod:`dualfocus_ros.simulation.defocus`: slices uniform in inverse
depth, one point spread function per slice and plane, composition from near to far. That renderer
skips empty slices; this one runs the same few large operations for all scenes, as GPUs prefer.
The point spread function must be the same all over the image and in all colours.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.simulation.depth_layers import fill_hidden
from dualfocus_ros.simulation.psf import Aperture, blur_kernels

_TINY = 1e-12


def upload(values: npt.ArrayLike, device: torch.device) -> Tensor:
    """Return a tensor on the device, copied asynchronously; float64 becomes float32."""
    array = np.asarray(values)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == 'cuda':
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def render_batch(
    colour: Tensor,
    position: Tensor,
    kappa: np.ndarray,
    focus: np.ndarray,
    apertures: Sequence[Aperture],
    max_radius: np.ndarray,
    *,
    layers: int,
) -> Tensor:
    """Render focal stacks of several scenes.

    :param colour: (B, 3, H, W) float32, linear light.
    :param position: (B, H, W) inverse depth in the unit of ``focus``, finite, same device.
    :param kappa: (B,) diameter of the circle of confusion in pixels per unit of inverse depth.
    :param focus: (B, N) focus of each plane.
    :param apertures: shape of the blur spot of each scene, without chromatic aberration.
    :param max_radius: (B,) the largest blur radius in pixels of each scene.
    :param layers: number of slices.
    :returns: (B, N, 3, H, W) linear light.
    :raises ValueError: for an aperture with chromatic aberration.
    """
    if any(aperture.chromatic for aperture in apertures):
        raise ValueError('render_batch has no chromatic aberration: use render_stack')
    device = colour.device
    batch, _, height, width = colour.shape
    planes = focus.shape[1]
    half = max(a.half_size(float(r)) for a, r in zip(apertures, max_radius, strict=True))
    pad = max(half, math.ceil(float(max_radius.max())) + 4)
    mode = 'reflect' if pad < min(height, width) else 'replicate'
    padded = functional.pad(torch.cat((colour, position[:, None]), 1), (pad,) * 4, mode=mode)
    shape = [int(next_fast_len(side + 2 * pad, real=True)) for side in (height, width)]

    nearest, farthest = position.amax(dim=(1, 2)), position.amin(dim=(1, 2))
    step = (nearest - farthest) / max(layers - 1, 1)
    offset = (nearest.view(-1, 1, 1) - padded[:, 3]) / step.clamp_min(1e-6).view(-1, 1, 1)
    offset = offset.clamp(0.0, layers - 1.0)
    depths = nearest[:, None] - step[:, None] * torch.arange(layers, device=device)
    kernels = _kernels(upload(kappa, device), upload(focus, device), depths, apertures, half)
    reach = upload(np.ceil(max_radius).astype(np.int64), device)

    images = torch.zeros((batch, planes, 3, height, width), device=device)
    transmittance = torch.ones((batch, planes, 1, height, width), device=device)
    # Transforms are longer than the padded frame, so that this part is free of wrap-around.
    first = pad + half
    rows, columns = slice(first, first + height), slice(first, first + width)
    for index in range(layers):
        distance = offset - index
        weight = (1.0 - distance.abs()).clamp_min(0.0)[:, None]
        content = torch.cat((padded[:, :3] * weight, weight), dim=1)
        content = fill_hidden(content, (distance <= -1.0)[:, None], reach)
        spectrum = torch.fft.rfft2(content, s=shape)[:, None]
        product = spectrum * torch.fft.rfft2(kernels[:, index], s=shape)[:, :, None]
        # Two 1-D transforms: the second one only for the rows of the result.
        partial = torch.fft.ifft(product, dim=-2)[..., rows, :]
        blurred = torch.fft.irfft(partial, n=shape[1], dim=-1)[..., columns]
        coverage = blurred[:, :, 3:].clamp_min(0.0)
        # Slices of one surface share its edge: their coverages add, up to 1.
        alpha = torch.minimum(coverage, transmittance)
        images += alpha / coverage.clamp_min(_TINY) * blurred[:, :, :3]
        transmittance = transmittance - alpha
    return images / (1.0 - transmittance).clamp_min(_TINY)


def _kernels(
    kappa: Tensor, focus: Tensor, depths: Tensor, apertures: Sequence[Aperture], half: int
) -> Tensor:
    """Return point spread functions (B, L, N, K, K) of each layer in each plane."""
    kernels = []
    for index, aperture in enumerate(apertures):
        # Spherical aberration moves the focus.
        planes = focus[index] + aperture.focus_shift * aperture.spherical
        radii = 0.5 * kappa[index] * (planes[None] - depths[index][:, None])
        flat = blur_kernels(radii.flatten(), aperture, half)
        kernels.append(flat.view(*radii.shape, *flat.shape[1:]))
    return torch.stack(kernels)
