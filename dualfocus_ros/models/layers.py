# SPDX-License-Identifier: Apache-2.0
"""Layers of the networks. Volumes are (B * N, C, H, W): planes folded into the batch.

A 3x3x3 convolution over (plane, y, x) is factorised into a (1, 3, 3) and a (3, 1, 1) part. In this
layout both are 2-D convolutions, for which every backend has fast kernels.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
import torch.nn.functional as functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

# One tensor of all planes, (B * N, ...), or one tensor per plane of a single stack, (1, ...).
# Planes encoded one by one are concatenated only where the decoder needs them.
PlaneTensors = tuple[Tensor, ...]
Network = TypeVar('Network', bound=nn.Module)


def is_cpu_inference(x: Tensor) -> bool:
    """Return whether to take the code path that is fast on a CPU but not differentiable."""
    return x.device.type == 'cpu' and not torch.is_grad_enabled()


def inplace_relu(x: Tensor) -> Tensor:
    """Return max(x, 0); without gradients the result overwrites ``x``."""
    return functional.relu(x, inplace=not torch.is_grad_enabled())


def inplace_add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, of the shape of ``x``; without gradients the result overwrites ``x``."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def conv_to_one_channel(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a zero-padded 3x3 convolution with one output channel.

    CPU kernels compute as many output channels as a register holds. A matrix product and shifted
    sums of its nine maps take a third of that time. The sums need float32.

    :param x: (M, C, h, w).
    :returns: (M, 1, h, w).
    """
    if not is_cpu_inference(x) or x.dtype != torch.float32:
        result: Tensor = convolution(x)
        return result
    count, channels, height, width = x.shape
    weight = convolution.weight[0].flatten(1)
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    taps = torch.mm(weight.t(), pixels.t()).view(3, 3, count, height, width)
    rows = taps[:, 1]
    rows[..., 1:] += taps[:, 0, ..., :-1]
    rows[..., :-1] += taps[:, 2, ..., 1:]
    above, out, below = rows
    out[:, 1:] += above[:, :-1]
    out[:, :-1] += below[:, 1:]
    return (out if convolution.bias is None else out.add_(convolution.bias))[:, None]


def plane_mean(x: Tensor, planes: int) -> Tensor:
    """Return the mean over the planes, (B, C, H, W), of (B * N, C, H, W)."""
    stacks = x.view(-1, planes, *x.shape[1:])
    if not is_cpu_inference(x):
        return stacks.mean(dim=1)
    # Adding planes in memory order is several times faster than the reduction over them.
    total = stacks[:, 0] + stacks[:, 1]
    for index in range(2, planes):
        total += stacks[:, index]
    return total.div_(planes)


def smooth3x3(images: Tensor, deviation: float) -> Tensor:
    """Smooth images (B, C, H, W) by a separable 3x3 kernel.

    :param deviation: standard deviation of the kernel in pixels, 0 to 0.7.
    """
    if deviation == 0.0:
        return images
    side_weight = 0.5 * deviation**2
    for axis, border in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        length = images.shape[axis]
        padded = functional.pad(images, border, mode='replicate')
        sides = padded.narrow(axis, 0, length) + padded.narrow(axis, 2, length)
        images = torch.add(images * (1.0 - 2.0 * side_weight), sides, alpha=side_weight)
    return images


def downsample2x(x: Tensor) -> Tensor:
    """Return the mean of each 2x2 pixels, (..., ceil(H/2), ceil(W/2)).

    The last cell of an odd side averages fewer pixels. Strided sums take a fourth of the time of
    a CPU pooling kernel.
    """
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = functional.pad(x, (0, width % 2, 0, height % 2), mode='replicate')
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalisation and no activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def cat_planes(tensors: PlaneTensors) -> Tensor:
    """Concatenate all planes, (B * N, ...)."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def split_planes(tensors: PlaneTensors, planes: int) -> PlaneTensors:
    """Return one tensor per plane, N times (B, ...)."""
    if len(tensors) == planes and all(len(tensor) == 1 for tensor in tensors):
        return tensors
    joined = cat_planes(tensors)
    return joined.view(-1, planes, *joined.shape[1:]).unbind(dim=1)


class ResidualBlock(nn.Module):
    """Residual block of two 3x3 convolutions, within each plane."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return inplace_relu(inplace_add(self.second(inplace_relu(self.first(x))), x))


class FocalConv(nn.Module):
    """Zero-padded (3, k, k) convolution along the planes of a volume (B * N, C, H, W).

    One 2-D convolution computes the contributions of each plane to itself and its neighbours.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.taps = nn.Conv2d(inputs, 3 * outputs, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor, planes: int) -> Tensor:
        if self.taps.kernel_size == (1, 1):
            return self._along_planes(x, planes)
        taps = self.taps(x)
        taps = taps.view(-1, planes, *taps.shape[1:])
        before, here, after = taps.split(self.outputs, dim=2)
        out = here.clone()
        out[:, 1:] += before[:, :-1]
        out[:, :-1] += after[:, 1:]
        return out.flatten(0, 1)

    def _along_planes(self, x: Tensor, planes: int) -> Tensor:
        """Compute the case k = 1 as a (3, 1) convolution of an image with one row per plane.

        In the channels-last format this image is a view of the volume.
        """
        channels, height, width = x.shape[1:]
        rows = x.permute(0, 2, 3, 1).reshape(-1, planes, height * width, channels)
        weight = torch.stack(self.taps.weight[:, :, 0].split(self.outputs), dim=2)
        bias = self.taps.bias
        if bias is not None:
            # Folding batch normalisation gives a bias to the middle tap only.
            bias = bias[self.outputs : 2 * self.outputs]
        out = functional.conv2d(rows.permute(0, 3, 1, 2), weight, bias, padding=(1, 0))
        pixels = out.permute(0, 2, 3, 1).reshape(-1, height, width, self.outputs)
        return pixels.permute(0, 3, 1, 2)


class FocalBlock(nn.Module):
    """Residual (2+1)-D block with the mean over the planes as context.

    The mean extends the receptive field to the whole stack for any number of planes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = conv_bn(channels, channels)
        self.focal = FocalConv(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.context = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, planes: int) -> Tensor:
        y = inplace_relu(self.spatial(x))
        focal = self.focal(y, planes)
        context = self.context(plane_mean(y, planes))[:, None]
        focal = inplace_add(focal.view(-1, planes, *focal.shape[1:]), context).flatten(0, 1)
        return inplace_relu(inplace_add(self.norm(focal), x))


class FullFocalBlock(nn.Module):
    """Residual block of two 3x3x3 convolutions, as in DFV and the published DualFocus."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = FocalConv(inputs, channels, 3)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = FocalConv(channels, channels, 3)
        self.second_norm = nn.BatchNorm2d(channels)
        self.skip: nn.Module = nn.Identity()
        if inputs != channels:
            self.skip = conv_bn(inputs, channels, 1)

    def forward(self, x: Tensor, planes: int) -> Tensor:
        y = torch.relu(self.first_norm(self.first(x, planes)))
        return torch.relu(self.skip(x) + self.second_norm(self.second(y, planes)))


def upsample_bilinear(x: Tensor, factor: int) -> Tensor:
    """Upsample (B, C, h, w) bilinearly by an integer factor."""
    return functional.interpolate(
        x, scale_factor=float(factor), mode='bilinear', align_corners=False
    )


def differential_volume(features: Tensor, planes: int) -> Tensor:
    """Return V* = [V_n, V_{n+1} - V_n]; the last plane has the backward difference.

    DualFocus section 3.1.

    :param features: V, (B * N, C, H, W).
    :returns: (B * N, 2 C, H, W).
    """
    volume = features.view(-1, planes, *features.shape[1:])
    steps = volume[:, 1:] - volume[:, :-1]
    return torch.cat([volume, torch.cat([steps, steps[:, -1:]], dim=1)], dim=2).flatten(0, 1)


def precompute_difference_conv(
    features: Tensor, value_weight: Tensor, difference_weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the per-plane part of a convolution of the differential volume, (M, 2 C', h, w).

    The convolution is A V_n + B (V_{n+1} - V_n) = (A - B) V_n + B V_{n+1}. The first half of the
    channels is (A - B) V_n, the second B V_n; :func:`finish_difference_conv` adds neighbours.

    :param features: V, (M, C, h, w).
    :param value_weight: A, (C', C, k, k).
    :param difference_weight: B, (C', C, k, k).
    """
    if bias is not None:
        bias = torch.cat([bias, torch.zeros_like(bias)])
    weight = torch.cat([value_weight - difference_weight, difference_weight])
    return functional.conv2d(features, weight, bias, padding=value_weight.shape[-1] // 2)


def finish_difference_conv(partial: PlaneTensors, planes: int) -> Tensor:
    """Return a convolution of the differential volume, (B*N, C', h, w).

    :param partial: (B*N, 2 C', h, w) by :func:`precompute_difference_conv`.
    """
    halves = [plane.chunk(2, dim=1) for plane in split_planes(partial, planes)]
    (_, before), (last, ahead) = halves[-2:]
    # The last plane has the backward difference: (A - B) V_n + B (2 V_n - V_{n-1}).
    pairs = [(here, following) for (here, _), (_, following) in pairwise(halves)]
    pairs.append((last, 2.0 * ahead - before))
    if torch.is_grad_enabled():
        return torch.stack([here + following for here, following in pairs], dim=1).flatten(0, 1)
    # Sum into the volume directly, to write each plane once.
    batch, *shape = last.shape
    volume = torch.empty(
        batch * planes,
        *shape,
        dtype=last.dtype,
        device=last.device,
        memory_format=torch.channels_last,
    )
    for plane, pair in zip(split_planes((volume,), planes), pairs, strict=True):
        torch.add(*pair, out=plane)
    return volume


def fold_batch_norm(network: Network) -> Network:
    """Return a copy for inference without batch normalisation, equal up to rounding.

    :raises ValueError: if the network is in training mode.
    """
    if network.training:
        raise ValueError(
            'network is in training mode, expected evaluation mode: call eval() first'
        )
    folded = copy.deepcopy(network)
    for module in folded.modules():
        for name, child in module.named_children():
            if (
                isinstance(child, nn.Sequential)
                and len(child) == 2
                and isinstance(child[0], nn.Conv2d)
                and isinstance(child[1], nn.BatchNorm2d)
            ):
                setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
    for module in folded.modules():
        if isinstance(module, FocalBlock):
            module.norm = _fold_into_focal_conv(module.focal, module.norm, module.context)
        elif isinstance(module, FullFocalBlock):
            module.first_norm = _fold_into_focal_conv(module.first, module.first_norm)
            module.second_norm = _fold_into_focal_conv(module.second, module.second_norm)
    return folded


def _fold_into_focal_conv(
    focal: FocalConv, norm: nn.BatchNorm2d, context: nn.Conv2d | None = None
) -> nn.BatchNorm2d:
    """Scale the three taps and the context; return a module in place of the norm.

    The shift goes to the middle tap, which contributes to every plane.
    """
    taps = focal.taps
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    with torch.no_grad():
        taps.weight.mul_(scale.repeat(3)[:, None, None, None])
        if context is not None:
            context.weight.mul_(scale[:, None, None, None])
    zero = torch.zeros_like(shift)
    taps.bias = nn.Parameter(torch.cat([zero, shift, zero]).detach())
    return nn.Identity()  # type: ignore[return-value]
