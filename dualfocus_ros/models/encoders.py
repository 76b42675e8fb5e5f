# SPDX-License-Identifier: Apache-2.0
"""Features of one plane: they need no other plane and no focus distance, so they can be kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.models.dualfocus_config import DualFocusConfig
from dualfocus_ros.models.focus_measure import LAPLACIAN_STEPS, log_focus_measures
from dualfocus_ros.models.layers import ResidualBlock, conv_bn, upsample_bilinear
from dualfocus_ros.models.resnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PyramidNeck,
    ResNet18,
)

# A tensor of all planes, (B * N, ...), or one for each plane of a single stack, (1, ...): what
# came one by one is put together only where the decoder computes with it.
PlaneTensors = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class PlaneFeatures:
    """What the network remembers of M planes; sides are padded to the network's stride.

    :param levels: (M, C, H/4, W/4), (M, C, H/8, W/8), ...
    :param fine: (M, C, H/2, W/2); empty if the network has no such level.
    :param keys: (M, K, H, W) features at full resolution; empty if the network has none.
    :param texture: (M, 2, H, W) the coarser focus measures, likewise.
    :param surfaces: (M, C, H/8, W/8) for the implicit surfaces; empty before the network has begun
        with them, or if it has none.
    """

    levels: tuple[PlaneTensors, ...]
    fine: PlaneTensors = ()
    keys: PlaneTensors = ()
    texture: PlaneTensors = ()
    surfaces: PlaneTensors = ()

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order in which :meth:`refilled` takes them."""
        parts = *self.levels, self.fine, self.keys, self.texture, self.surfaces
        return [tensor for tensors in parts for tensor in tensors]

    def with_tensors(self, tensors: Iterable[Tensor]) -> PlaneFeatures:
        """Return features of the same form with other tensors."""
        rest = iter(tensors)

        def filled(parts: PlaneTensors) -> PlaneTensors:
            return tuple(next(rest) for _ in parts)

        return PlaneFeatures(
            tuple(filled(level) for level in self.levels),
            filled(self.fine),
            filled(self.keys),
            filled(self.texture),
            filled(self.surfaces),
        )

    @staticmethod
    def join(planes: Sequence[PlaneFeatures]) -> PlaneFeatures:
        """Put features of planes together in the given order, without copying them."""
        return PlaneFeatures(
            tuple(sum(level, ()) for level in zip(*(p.levels for p in planes), strict=True)),
            tuple(part for p in planes for part in p.fine),
            tuple(part for p in planes for part in p.keys),
            tuple(part for p in planes for part in p.texture),
            tuple(part for p in planes for part in p.surfaces),
        )

    def select(self, index: Tensor) -> PlaneFeatures:
        """Return the planes of these indices, in this order."""

        def pick(parts: PlaneTensors) -> PlaneTensors:
            return (cat_planes(parts)[index],) if parts else ()

        return PlaneFeatures(
            tuple(pick(level) for level in self.levels),
            pick(self.fine),
            pick(self.keys),
            pick(self.texture),
            pick(self.surfaces),
        )


def cat_planes(parts: PlaneTensors) -> Tensor:
    """Return all planes in one tensor, (B * N, ...)."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def split_planes(parts: PlaneTensors, planes: int) -> PlaneTensors:
    """Return each plane of the stacks, N times (B, ...)."""
    if len(parts) == planes and all(len(part) == 1 for part in parts):
        return parts
    whole = cat_planes(parts)
    return whole.view(-1, planes, *whole.shape[1:]).unbind(dim=1)


class LightEncoder(nn.Module):
    """A small convolutional trunk with a top-down path, and keys at full resolution."""

    def __init__(self, config: DualFocusConfig) -> None:
        super().__init__()
        half, *widths = config.encoder
        self.measures = config.measures
        channels = 3 + (len(LAPLACIAN_STEPS) if config.measures else 0)
        # Pixels are folded into channels rather than skipped: blur lives in the finest detail.
        self.stem = conv_bn(4 * channels, half)
        self.fine = conv_bn(half, config.fine, 1) if config.fine else None
        self.keys = conv_bn(half, 4 * config.keys) if config.keys else None
        self.down = nn.ModuleList(
            conv_bn(inputs, outputs, stride=2) for inputs, outputs in zip([half, *widths], widths)
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
        keys: PlaneTensors = ()
        if self.keys is not None:
            learned = functional.pixel_shuffle(self.keys(x), 2)
            if measures is not None:
                learned = torch.cat([learned, measures.to(learned.dtype)], dim=1)
                # A part of them, rather than the same numbers once more.
                measures = learned[:, -measures.shape[1] :]
            keys = (learned,)
        features = []
        for down, body in zip(self.down, self.bodies, strict=True):
            x = body(torch.relu(down(x)))
            features.append(x)
        levels: list[Tensor] = []
        for feature, lateral in zip(features[::-1], list(self.laterals)[::-1], strict=True):
            if levels:
                feature = torch.cat([feature, upsample_bilinear(levels[-1], 2)], dim=1)
            levels.append(torch.relu(lateral(feature)))
        texture = () if measures is None else (measures[:, 1:],)
        return PlaneFeatures(tuple((level,) for level in levels[::-1]), fine, keys, texture)


class ResNetEncoder(nn.Module):
    """ResNet-18 with DFV's neck, as the published network is understood to have it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18()
        self.neck = PyramidNeck()
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN)[:, None, None], False)
        deviation = torch.tensor(IMAGENET_STD)[:, None, None]
        self.register_buffer('deviation', deviation, False)

    def forward(self, images: Tensor) -> PlaneFeatures:
        normalised = (images - self.mean) / self.deviation
        return PlaneFeatures(tuple((level,) for level in self.neck(self.trunk(normalised))))
