# SPDX-License-Identifier: Apache-2.0
"""Building blocks. Volumes are kept as (B * N, C, H, W): planes folded into the batch.

A 3 x 3 x 3 convolution over (plane, y, x) is factorised into a (1, 3, 3) and a (3, 1, 1) part.
Both are 2-D convolutions in this layout, which run on the fast kernels of every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
import torch.nn.functional as functional


def is_cpu_inference(x: Tensor) -> bool:
    """Tell whether what is fast on a CPU may be done in place of what can be learned from."""
    return x.device.type == 'cpu' and not torch.is_grad_enabled()


def inplace_relu(x: Tensor) -> Tensor:
    """Return max(x, 0) of a tensor that nobody else needs."""
    return functional.relu(x, inplace=not torch.is_grad_enabled())


def inplace_add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y of an x that nobody else needs and that has the shape of the sum."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def conv_to_one_channel(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return a 3x3 convolution, zero padded, to a single channel: (M, 1, h, w) of (M, C, h, w).

    Kernels for a CPU compute as many channels as a register holds. One product of matrices and
    shifted sums of its nine maps take a third of that time. Half precision would lose in them.
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
    # One plane after the other, in the order of memory: several times faster than the reduction.
    total = stacks[:, 0] + stacks[:, 1]
    for index in range(2, planes):
        total += stacks[:, index]
    return total.div_(planes)


def smooth3x3(images: Tensor, deviation: float) -> Tensor:
    """Return images (B, C, H, W) after a 3x3 kernel of this standard deviation in pixels."""
    if deviation == 0.0:
        return images
    beside = 0.5 * deviation**2
    for axis, border in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        length = images.shape[axis]
        padded = functional.pad(images, border, mode='replicate')
        sides = padded.narrow(axis, 0, length) + padded.narrow(axis, 2, length)
        images = torch.add(images * (1.0 - 2.0 * beside), sides, alpha=beside)
    return images


def downsample2x(x: Tensor) -> Tensor:
    """Return the mean of each 2x2 pixels, (..., ceil(H/2), ceil(W/2)); odd sides end in fewer.

    Sums of every other row and column take a fourth of what a pooling kernel for a CPU takes.
    """
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = functional.pad(x, (0, width % 2, 0, height % 2), mode='replicate')
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation, without activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip, for one plane on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return inplace_relu(inplace_add(self.second(inplace_relu(self.first(x))), x))


class FocalConv(nn.Module):
    """A (3, k, k) convolution along the planes of a volume (B * N, C, H, W), zero padded.

    One 2-D convolution gives what each plane contributes to its neighbours and itself.
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
        """Return the same for k = 1: a (3, 1) convolution of an image with a row for each plane.

        With channels last such an image is the volume as it lies in memory.
        """
        channels, height, width = x.shape[1:]
        rows = x.permute(0, 2, 3, 1).reshape(-1, planes, height * width, channels)
        weight = torch.stack(self.taps.weight[:, :, 0].split(self.outputs), dim=2)
        bias = self.taps.bias
        if bias is not None:
            # Fusing leaves one to the middle tap only.
            bias = bias[self.outputs : 2 * self.outputs]
        out = functional.conv2d(rows.permute(0, 3, 1, 2), weight, bias, padding=(1, 0))
        pixels = out.permute(0, 2, 3, 1).reshape(-1, height, width, self.outputs)
        return pixels.permute(0, 3, 1, 2)


class FocalBlock(nn.Module):
    """A residual (2+1)-D block that also sees the mean over the stack.

    The mean gives every plane the whole stack at once, however many planes there are.
    """

    def __init__(self, channels: int, context: bool = True) -> None:
        super().__init__()
        self.spatial = conv_bn(channels, channels)
        self.focal = FocalConv(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.context = nn.Conv2d(channels, channels, 1, bias=False) if context else None

    def forward(self, x: Tensor, planes: int) -> Tensor:
        y = inplace_relu(self.spatial(x))
        focal = self.focal(y, planes)
        if self.context is not None:
            context = self.context(plane_mean(y, planes))[:, None]
            focal = inplace_add(focal.view(-1, planes, *focal.shape[1:]), context).flatten(0, 1)
        return inplace_relu(inplace_add(self.norm(focal), x))


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


def upsample_bilinear(x: Tensor, factor: int) -> Tensor:
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
    steps = volume[:, 1:] - volume[:, :-1]
    return torch.cat([volume, torch.cat([steps, steps[:, -1:]], dim=1)], dim=2).flatten(0, 1)
