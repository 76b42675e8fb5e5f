# SPDX-License-Identifier: Apache-2.0
"""Features of one plane: they need no other plane and no focus distance, so they can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.network.configurations import DualFocusConfig
from dualfocus_ros.network.focus_measure import STEPS, log_focus_measures
from dualfocus_ros.network.layers import ResidualBlock, bilinear, conv_bn
from dualfocus_ros.network.resnet import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    PyramidNeck,
    ResNet18,
)


@dataclass(frozen=True, eq=False)
class PlaneFeatures:
    """What the network remembers of M planes; sides are padded to the network's stride.

    :param levels: (M, C, H/4, W/4), (M, C, H/8, W/8), ...
    :param fine: (M, C, H/2, W/2), alone; empty if the network has no such level.
    :param surfaces: (M, C, H/8, W/8), alone, for the implicit surfaces; empty before the network
        has begun with them, or if it has none.
    :param keys: (m, K, H, W) features at full resolution, of all planes in one or more parts;
        empty if the network has none.
    :param texture: (m, 2, H, W) the coarser focus measures, likewise.
    """

    levels: tuple[Tensor, ...]
    fine: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    texture: tuple[Tensor, ...] = ()
    surfaces: tuple[Tensor, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes."""
        parts = self.levels, self.fine, self.keys, self.texture, self.surfaces
        return sum(tensor.nbytes for tensors in parts for tensor in tensors)

    @staticmethod
    def join(planes: Sequence[PlaneFeatures]) -> PlaneFeatures:
        """Put features of planes together in the given order; the large ones are not copied."""
        return PlaneFeatures(
            tuple(torch.cat(level) for level in zip(*(p.levels for p in planes))),
            tuple(torch.cat(level) for level in zip(*(p.fine for p in planes))),
            tuple(part for p in planes for part in p.keys),
            tuple(part for p in planes for part in p.texture),
            tuple(torch.cat(level) for level in zip(*(p.surfaces for p in planes))),
        )

    def select(self, index: Tensor) -> PlaneFeatures:
        """Return the planes of these indices, in this order."""
        def pick(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.cat(parts)[index],) if parts else ()

        levels = tuple(level[index] for level in self.levels)
        return PlaneFeatures(
            levels, pick(self.fine), pick(self.keys), pick(self.texture), pick(self.surfaces)
        )

    def keys_of_planes(self, planes: int) -> list[Tensor]:
        """Return the keys of each plane of the stacks, N times (B, K, H, W)."""
        return _of_planes(self.keys, planes)

    def texture_of_planes(self, planes: int) -> list[Tensor]:
        """Return the texture of each plane of the stacks, N times (B, 2, H, W)."""
        return _of_planes(self.texture, planes)


def _of_planes(parts: tuple[Tensor, ...], planes: int) -> list[Tensor]:
    if len(parts) == planes and all(len(part) == 1 for part in parts):
        return list(parts)
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return list(whole.view(-1, planes, *whole.shape[1:]).unbind(dim=1))


class LightEncoder(nn.Module):
    """A small convolutional trunk with a top-down path, and keys at full resolution."""

    def __init__(self, config: DualFocusConfig) -> None:
        super().__init__()
        half, *widths = config.encoder
        self.measures = config.measures
        channels = 3 + (len(STEPS) if config.measures else 0)
        # Pixels are folded into channels rather than skipped: blur lives in the finest detail.
        self.stem = conv_bn(4 * channels, half)
        self.fine = conv_bn(half, config.fine, 1) if config.fine else None
        self.keys = conv_bn(half, 4 * config.keys) if config.keys else None
        self.down = nn.ModuleList(
            conv_bn(inputs, outputs, stride=2)
            for inputs, outputs in zip([half, *widths], widths)
        )
        self.bodies = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
            for width, blocks in zip(widths, config.encoder_blocks)
        )
        coarser = [*config.volume[1:], 0]
        self.laterals = nn.ModuleList(
            conv_bn(width + above, volume, 1)
            for width, above, volume in zip(widths, coarser, config.volume)
        )

    def forward(self, images: Tensor) -> PlaneFeatures:
        x = (images - 0.45) * 4.0
        measures = log_focus_measures(images) if self.measures else None
        if measures is not None:
            x = torch.cat([x, measures.to(x.dtype)], dim=1)
        x = torch.relu(self.stem(functional.pixel_unshuffle(x, 2)))
        fine = () if self.fine is None else (torch.relu(self.fine(x)),)
        keys: tuple[Tensor, ...] = ()
        if self.keys is not None:
            learned = functional.pixel_shuffle(self.keys(x), 2)
            if measures is not None:
                learned = torch.cat([learned, measures.to(learned.dtype)], dim=1)
            keys = (learned,)
        features = []
        for down, body in zip(self.down, self.bodies, strict=True):
            x = body(torch.relu(down(x)))
            features.append(x)
        levels: list[Tensor] = []
        for feature, lateral in zip(features[::-1], list(self.laterals)[::-1], strict=True):
            if levels:
                feature = torch.cat([feature, bilinear(levels[-1], 2)], dim=1)
            levels.append(torch.relu(lateral(feature)))
        texture = () if measures is None else (measures[:, 1:],)
        return PlaneFeatures(tuple(levels[::-1]), fine, keys, texture)


class ResNetEncoder(nn.Module):
    """ResNet-18 with DFV's neck, as the published network is understood to have it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18()
        self.neck = PyramidNeck()
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN)[:, None, None], False)
        deviation = torch.tensor(IMAGENET_DEVIATION)[:, None, None]
        self.register_buffer('deviation', deviation, False)

    def forward(self, images: Tensor) -> PlaneFeatures:
        normalised = (images - self.mean) / self.deviation
        return PlaneFeatures(tuple(self.neck(self.trunk(normalised))))
