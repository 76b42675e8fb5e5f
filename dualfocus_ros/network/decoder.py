# SPDX-License-Identifier: Apache-2.0
"""Heads and levels that turn the planes' features into focus probabilities."""

from __future__ import annotations

from collections.abc import Sequence
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.network.layers import (
    FocalBlock,
    FullFocalBlock,
    Pointwise,
    bilinear,
    conv_bn,
    differential_volume,
    plane_differences,
    pointwise,
)
from dualfocus_ros.network.projection import integrate


def expectation(probability: Tensor, values: Tensor) -> Tensor:
    """Return sum p_n v_n, (B, H, W), of p (B, N, H, W) and v (B, N): one product of matrices."""
    batch, _, height, width = probability.shape
    return torch.bmm(values[:, None], probability.flatten(2)).view(batch, height, width)


class SurfaceHead(nn.Module):
    """Gradient features, their integrable projection z*, and theta_grad (DualFocus sec. 3.2)."""

    def __init__(self, channels: int, surfaces: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [channels, *hidden]
        self.hidden = nn.Sequential(
            *(nn.Sequential(conv_bn(i, o), nn.ReLU()) for i, o in zip(widths, hidden))
        )
        self.gradient = nn.Conv2d(widths[-1], 2 * surfaces, 3, padding=1)
        # z* grows with the size of the grid; the decoder gets it at a size-free scale.
        self.norm = nn.GroupNorm(1, surfaces)
        self.theta = nn.Conv2d(surfaces, 2, 3, padding=1, padding_mode='replicate', bias=False)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised surfaces (B*N, C2, h, w) and gradients (B*N, 2, h, w)."""
        gx, gy = self.gradient(self.hidden(volume)).chunk(2, dim=1)
        surfaces = integrate(gx, gy)
        return self.norm(surfaces).to(volume.dtype), self.theta(surfaces.to(volume.dtype))


class DecoderLevel(nn.Module):
    """Merge the volume, the surfaces and the coarser level, then mix along planes and space.

    :param widths: channels of the planes' features, of the conditions, surfaces and coarser level.
    :param level: 0 at 1/4 of the image, 1 at 1/8, ..., -1 at 1/2 (without surfaces).
    """

    def __init__(
        self, widths: tuple[int, int, int, int], channels: int, blocks: int, full_3d: bool,
        level: int,
    ) -> None:
        super().__init__()
        features, *others = widths
        self.parts = (features, features, *others)
        inputs = sum(self.parts)
        self.level = level
        # Fusing leaves the convolution alone.
        self.merge: nn.Module | None = None if full_3d else conv_bn(inputs, channels, 1)
        self.blocks = nn.ModuleList(
            FullFocalBlock(channels if index else inputs, channels)
            if full_3d
            else FocalBlock(channels)
            for index in range(blocks)
        )

    def forward(
        self,
        features: Tensor,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return (B*N, channels, h, w).

        :param features: (B*N, C, h, w) of the planes.
        :param condition: (B*N, K) the same over the image.
        :param surfaces: (B*N, C2, H/8, W/8).
        :param coarser: (B*N, C', h/2, w/2).
        """
        if self.merge is None:
            volume = [with_conditions(differential_volume(features, planes), condition)]
            if surfaces is not None:
                volume.append(self._resized(surfaces))
            if coarser is not None:
                volume.append(bilinear(coarser, 2))
            x = torch.cat(volume, dim=1)
        else:
            x = torch.relu(self._merged(features, condition, surfaces, coarser, planes))
        for block in self.blocks:
            x = block(x, planes)
        return x

    def _merged(
        self,
        features: Tensor,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return the 1x1 convolution of all inputs together, without putting them together.

        Each has its part of the weights, and a 1x1 convolution may as well come before
        differences and enlargement: then these have fewer channels.
        """
        norm: nn.Module = nn.Identity()
        convolution = self.merge
        if isinstance(convolution, nn.Sequential):
            convolution, norm = convolution
        assert isinstance(convolution, nn.Conv2d)
        here, steps, given, shaped, above = convolution.weight.split(self.parts, dim=1)
        both = pointwise(features, torch.cat([here, steps]))
        value, ahead = both.view(-1, planes, *both.shape[1:]).chunk(2, dim=2)
        x = value + plane_differences(ahead)
        x = x.flatten(0, 1)
        if surfaces is not None:
            # Enlarged last and shrunk first.
            x = x + (
                self._resized(pointwise(surfaces, shaped))
                if self.level == 0
                else pointwise(self._resized(surfaces), shaped)
            )
        if coarser is not None:
            x = x + bilinear(pointwise(coarser, above), 2)
        if condition is not None:
            x = x + functional.linear(condition, given[:, :, 0, 0])[..., None, None]
        if convolution.bias is not None:
            x = x + convolution.bias[:, None, None]
        return norm(x)

    def _resized(self, surfaces: Tensor) -> Tensor:
        if self.level == 0:
            return bilinear(surfaces, 2)
        if self.level == 1:
            return surfaces
        return functional.avg_pool2d(surfaces, 2 ** (self.level - 1))


def with_conditions(volume: Tensor, condition: Tensor | None) -> Tensor:
    """Return a volume (M, C, h, w) with conditions (M, K) as further, constant channels."""
    if condition is None:
        return volume
    maps = condition[..., None, None].expand(-1, -1, *volume.shape[-2:])
    return torch.cat([volume, maps], dim=1)


class FocusWindow(nn.Module):
    """Bends logits down away from their mean plane, by a curvature that each pixel chooses.

    Where the curvature outweighs what the logits still say, p falls to both sides of its peak:
    far tails cannot rise again.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.curvature = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.constant_(self.curvature.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, mean_features: Tensor, fraction: Tensor) -> Tensor:
        """Return logits of the same shape.

        :param logits: (B, N, H, W).
        :param mean_features: (B, C, H/4, W/4) the decoder's, averaged over the planes.
        :param fraction: (B, N) planes from 0 to 1.
        """
        steps = fraction * (fraction.shape[1] - 1)
        mean = expectation(torch.softmax(logits.float(), dim=1), steps)[:, None]
        curvature = bilinear(functional.softplus(self.curvature(mean_features).float()), 4)
        # -c (s - m)^2 up to c m^2, which is the same for all planes and so says nothing.
        steps = steps[..., None, None]
        bent = torch.addcmul(logits.float(), steps, 2.0 * curvature * mean)
        return torch.addcmul(bent, steps.square(), curvature, value=-1.0).to(logits.dtype)


class SigmaHead(nn.Module):
    """Log standard deviation, in units of the mean plane spacing, from the shape of p."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Pointwise(4 + context, 16), nn.ReLU(), Pointwise(16, 16), nn.ReLU(),
            Pointwise(16, 1),
        )  # fmt: skip

    def scale(self, factor: float) -> None:
        """Multiply every predicted standard deviation by ``factor`` from now on."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias += math.log(factor)

    def forward(self, spread: Tensor, peak: Tensor, texture: Tensor, context: Tensor) -> Tensor:
        log_spread = torch.log(spread + 0.02)
        return log_spread + self.layers(torch.cat([log_spread, peak, texture, context], dim=1))
