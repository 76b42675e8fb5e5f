# SPDX-License-Identifier: Apache-2.0
"""Building blocks. Volumes are kept as (B * N, C, H, W): planes folded into the batch.

A 3 x 3 x 3 convolution over (plane, y, x) is factorised into a (1, 3, 3) and a (3, 1, 1) part.
Both are 2-D convolutions in this layout, which run on the fast kernels of every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation, without activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip, for one plane on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class FocalConv(nn.Module):
    """A (3, 1, 1) convolution along the planes of a volume (B * N, C, H, W), zero padded."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.taps = nn.Conv2d(inputs, 3 * outputs, 1, bias=False)

    def forward(self, x: Tensor, planes: int) -> Tensor:
        taps = self.taps(x)
        taps = taps.view(-1, planes, *taps.shape[1:])
        before, here, after = taps.split(self.outputs, dim=2)
        out = here.clone()
        out[:, 1:] += before[:, :-1]
        out[:, :-1] += after[:, 1:]
        return out.flatten(0, 1)


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
        y = torch.relu(self.spatial(x))
        focal = self.focal(y, planes)
        if self.context is not None:
            mean = y.view(-1, planes, *y.shape[1:]).mean(dim=1)
            focal = focal.view(-1, planes, *focal.shape[1:]) + self.context(mean)[:, None]
            focal = focal.flatten(0, 1)
        return torch.relu(x + self.norm(focal))


def differential_volume(features: Tensor, planes: int) -> Tensor:
    """Return V* = [V_n, V_{n+1} - V_n]; the last plane takes the backward difference.

    DualFocus section 3.1.

    :param features: (B * N, C, H, W).
    :returns: (B * N, 2 C, H, W).
    """
    volume = features.view(-1, planes, *features.shape[1:])
    steps = volume[:, 1:] - volume[:, :-1]
    steps = torch.cat([steps, steps[:, -1:]], dim=1)
    return torch.cat([volume, steps], dim=2).flatten(0, 1)
