# SPDX-License-Identifier: Apache-2.0
"""The layered renderer for many scenes at once, on any device, without waiting for it.

The method is that of :mod:`dualfocus_ros.simulation.defocus`, whose images it reproduces: layers
uniform in inverse depth, hidden background continued from what is visible, one spot per layer and
plane, composed from near to far. That one is for single scenes on a CPU and skips what is empty;
here every scene takes the same steps, so that a graphics processor is fed with few, large
operations. For lenses whose spot is the same all over the image and in all colours.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np
from scipy.fft import next_fast_len
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.simulation.psf import Aperture, blur_kernels

_TINY = 1e-12


def upload(values: np.ndarray | Sequence[float] | Sequence[int], device: torch.device) -> Tensor:
    """Return a tensor on the device without waiting for what the device does now.

    Floating-point values become float32.
    """
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
    :param apertures: the form of the blur spot of each scene, without chromatic differences.
    :param max_radius: (B,) the largest blur radius in pixels that each scene needs.
    :param layers: number of slices.
    :returns: (B, N, 3, H, W) linear light.
    :raises ValueError: for an aperture with chromatic differences.
    """
    if any(aperture.chromatic for aperture in apertures):
        raise ValueError('render_batch blurs all colours alike: use render_stack')
    device = colour.device
    batch, _, height, width = colour.shape
    planes = focus.shape[1]
    half = max(a.half_size(float(r)) for a, r in zip(apertures, max_radius, strict=True))
    pad = max(half, math.ceil(float(max_radius.max())) + 4)
    mode = 'reflect' if pad < min(height, width) else 'replicate'
    padded = functional.pad(torch.cat((colour, position[:, None]), 1), (pad,) * 4, mode=mode)
    shape = (
        int(next_fast_len(height + 2 * pad, real=True)),
        int(next_fast_len(width + 2 * pad, real=True)),
    )

    nearest, farthest = position.amax(dim=(1, 2)), position.amin(dim=(1, 2))
    step = (nearest - farthest) / max(layers - 1, 1)
    offset = (nearest.view(-1, 1, 1) - padded[:, 3]) / step.clamp_min(1e-6).view(-1, 1, 1)
    offset = offset.clamp(0.0, layers - 1.0)
    depths = nearest[:, None] - step[:, None] * torch.arange(layers, device=device)
    kernels = _kernels(upload(kappa, device), upload(focus, device), depths, apertures, half)
    reach = upload(np.ceil(max_radius).astype(np.int64), device)

    out = torch.zeros((batch, planes, 3, height, width), device=device)
    left = torch.ones((batch, planes, 1, height, width), device=device)
    # Transforms are longer than the padded frame: what wraps around stays outside of this part.
    first = pad + half
    rows, columns = slice(first, first + height), slice(first, first + width)
    for index in range(layers):
        content = _layer(padded[:, :3], offset - index, reach)
        spectrum = torch.fft.rfft2(content, s=shape)[:, None]
        product = spectrum * torch.fft.rfft2(kernels[:, index], s=shape)[:, :, None]
        # Two one-dimensional steps: rows that are not kept need no second transform.
        kept = torch.fft.ifft(product, dim=-2)[..., rows, :]
        blurred = torch.fft.irfft(kept, n=shape[1], dim=-1)[..., columns]
        coverage = blurred[:, :, 3:].clamp_min(0.0)
        # Slices of one surface share its edge, so their coverages add up (up to 1).
        taken = torch.minimum(coverage, left)
        out += taken / coverage.clamp_min(_TINY) * blurred[:, :, :3]
        left = left - taken
    return out / (1.0 - left).clamp_min(_TINY)


def _kernels(
    kappa: Tensor, focus: Tensor, depths: Tensor, apertures: Sequence[Aperture], half: int
) -> Tensor:
    """Return spots (B, L, N, K, K) of every layer in every plane."""
    kernels = []
    for index, aperture in enumerate(apertures):
        # Spherical aberration moves the focus.
        planes = focus[index] + aperture.focus_shift * aperture.spherical
        radii = 0.5 * kappa[index] * (planes[None] - depths[index][:, None])
        spots = blur_kernels(radii.flatten(), aperture, half)
        kernels.append(spots.view(*radii.shape, *spots.shape[1:]))
    return torch.stack(kernels)


def _layer(colour: Tensor, offset: Tensor, reach: Tensor) -> Tensor:
    """Return premultiplied colour and coverage (B, 4, H, W), continued under nearer layers."""
    weight = (1.0 - offset.abs()).clamp_min(0.0)[:, None]
    hidden = (offset <= -1.0)[:, None]
    own = torch.cat((colour * weight, weight), dim=1)
    sums = _box_sum(torch.cat((own, (~hidden).to(own.dtype)), dim=1), reach)
    # Half a pixel: sums of float differences leave traces where the box saw nothing.
    continued = sums[:, :4] / sums[:, 4:].clamp_min(0.5) * (sums[:, 4:] > 0.5)
    return torch.where(hidden, continued, own)


def _box_sum(planes: Tensor, reach: Tensor) -> Tensor:
    """Return sums over squares of 2 * reach + 1 pixels, cut off at the border; reach (B,)."""
    for axis in (2, 3):
        length = planes.shape[axis]
        total = functional.pad(planes.cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
        index = torch.arange(length, device=planes.device)[None]
        view = (-1, 1, length, 1) if axis == 2 else (-1, 1, 1, length)
        last = (index + reach[:, None] + 1).clamp_max(length).view(view).expand_as(planes)
        first = (index - reach[:, None]).clamp_min(0).view(view).expand_as(planes)
        planes = total.gather(axis, last) - total.gather(axis, first)
    return planes
