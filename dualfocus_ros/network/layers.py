# SPDX-License-Identifier: Apache-2.0
"""Building blocks. Volumes are kept as (B * N, C, H, W): planes folded into the batch.

A 3 x 3 x 3 convolution over (plane, y, x) is factorised into a (1, 3, 3) and a (3, 1, 1) part.
Both are 2-D convolutions in this layout, which run on the fast kernels of every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
import torch.nn.functional as functional


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; on a CPU as one matrix product over all pixels.

    PyTorch's own 1x1 convolution is several times slower there on a single thread.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.bias)


def _only_inference_on_cpu(x: Tensor) -> bool:
    return x.device.type == 'cpu' and not torch.is_grad_enabled()


def relu(x: Tensor) -> Tensor:
    """Return max(x, 0) of a tensor that nobody else needs."""
    return functional.relu(x, inplace=not torch.is_grad_enabled())


def plane_mean(x: Tensor, planes: int) -> Tensor:
    """Return the mean over the planes, (B, C, H, W), of (B * N, C, H, W)."""
    stacks = x.view(-1, planes, *x.shape[1:])
    if not _only_inference_on_cpu(x):
        return stacks.mean(dim=1)
    # One plane after the other, in the order of memory: several times faster than the reduction.
    total = stacks[:, 0] + stacks[:, 1]
    for index in range(2, planes):
        total += stacks[:, index]
    return total.div_(planes)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the 1x1 convolution of (M, C, H, W) by (D, C, 1, 1); see :class:`Pointwise`."""
    if not _only_inference_on_cpu(x):
        return functional.conv2d(x, weight, bias)
    pixels = x.permute(0, 2, 3, 1)
    return functional.linear(pixels, weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation, without activation."""
    convolution = (
        Pointwise(inputs, outputs, bias=False)
        if kernel == stride == 1
        else nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip, for one plane on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.second(relu(self.first(x))))


class FocalConv(nn.Module):
    """A (3, k, k) convolution along the planes of a volume (B * N, C, H, W), zero padded.

    One 2-D convolution gives what each plane contributes to its neighbours and itself.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.taps: nn.Conv2d = (
            Pointwise(inputs, 3 * outputs, bias=False)
            if kernel == 1
            else nn.Conv2d(inputs, 3 * outputs, kernel, padding=kernel // 2, bias=False)
        )

    def forward(self, x: Tensor, planes: int) -> Tensor:
        if isinstance(self.taps, Pointwise) and _only_inference_on_cpu(x):
            return self._added_up(x, planes)
        taps = self.taps(x)
        taps = taps.view(-1, planes, *taps.shape[1:])
        before, here, after = taps.split(self.outputs, dim=2)
        out = here.clone()
        out[:, 1:] += before[:, :-1]
        out[:, :-1] += after[:, 1:]
        return out.flatten(0, 1)

    def _added_up(self, x: Tensor, planes: int) -> Tensor:
        """Return the same with the contributions added as they are computed.

        The pixels of a plane are rows of a matrix, one plane below the other.
        """
        height, width = x.shape[-2:]
        size = height * width
        rows = x.permute(0, 2, 3, 1).reshape(-1, planes * size, x.shape[1])
        before, here, after = (part.t() for part in self.taps.weight[:, :, 0, 0].chunk(3))
        out = rows @ here
        # Autocast chooses the type of a product, but not of one that is added in place.
        rows, before, after = (part.to(out.dtype) for part in (rows, before, after))
        for stack, result in zip(rows, out, strict=True):
            result[size:].addmm_(stack[:-size], before)
            result[:-size].addmm_(stack[size:], after)
        bias = self.taps.bias
        if bias is not None:
            # Fusing leaves one to the middle tap only.
            out += bias[self.outputs : 2 * self.outputs]
        return out.view(-1, height, width, self.outputs).permute(0, 3, 1, 2)


class FocalBlock(nn.Module):
    """A residual (2+1)-D block that also sees the mean over the stack.

    The mean gives every plane the whole stack at once, however many planes there are.
    """

    def __init__(self, channels: int, context: bool = True) -> None:
        super().__init__()
        self.spatial = conv_bn(channels, channels)
        self.focal = FocalConv(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.context = Pointwise(channels, channels, bias=False) if context else None

    def forward(self, x: Tensor, planes: int) -> Tensor:
        y = relu(self.spatial(x))
        focal = self.focal(y, planes)
        if self.context is not None:
            context = self.context(plane_mean(y, planes))[:, None]
            focal = (focal.view(-1, planes, *focal.shape[1:]) + context).flatten(0, 1)
        return relu(x + self.norm(focal))


class FullFocalBlock(nn.Module):
    """A residual block of two whole 3x3x3 convolutions, as DFV and DualFocus have it."""

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


def bilinear(x: Tensor, factor: int) -> Tensor:
    """Enlarge (B, C, h, w) by a whole factor."""
    return functional.interpolate(
        x, scale_factor=float(factor), mode='bilinear', align_corners=False
    )


def differential_volume(features: Tensor, planes: int) -> Tensor:
    """Return V* = [V_n, V_{n+1} - V_n]; the last plane takes the backward difference.

    DualFocus section 3.1.

    :param features: (B * N, C, H, W).
    :returns: (B * N, 2 C, H, W).
    """
    volume = features.view(-1, planes, *features.shape[1:])
    return torch.cat([volume, plane_differences(volume)], dim=2).flatten(0, 1)


def plane_differences(volume: Tensor) -> Tensor:
    """Return V_{n+1} - V_n along the planes of (B, N, ...), twice the last one."""
    steps = volume[:, 1:] - volume[:, :-1]
    return torch.cat([steps, steps[:, -1:]], dim=1)
