# SPDX-License-Identifier: Apache-2.0
"""Encoders: features of single planes, independent of other planes and of focus distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.models.dualfocus_config import DualFocusConfig
from dualfocus_ros.models.focus_measure import LAPLACIAN_STEPS, log_focus_measures
from dualfocus_ros.models.layers import (
    PlaneTensors,
    ResidualBlock,
    cat_planes,
    conv_bn,
    upsample_bilinear,
)
from dualfocus_ros.models.resnet import IMAGENET_MEAN, IMAGENET_STD, PyramidNeck, ResNet18


@dataclass(frozen=True, eq=False)
class PlaneFeatures:
    """Features of M planes, with sides padded to the stride of the network.

    :param levels: (M, C, H/4, W/4), (M, C, H/8, W/8), ...
    :param fine: (M, C, H/2, W/2); empty without a fine level.
    :param keys: (M, K, H, W) keys at full resolution; empty without keys.
    :param texture: (M, 2, H, W) the coarser focus measures; empty without focus measures.
    :param surfaces: (M, C, H/8, W/8) input of the implicit surfaces; empty without surfaces, and
        in the output of an encoder.
    """

    levels: tuple[PlaneTensors, ...]
    fine: PlaneTensors = ()
    keys: PlaneTensors = ()
    texture: PlaneTensors = ()
    surfaces: PlaneTensors = ()

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of :meth:`with_tensors`."""
        return [tensor for group in self._groups for tensor in group]

    def with_tensors(self, tensors: Iterable[Tensor]) -> PlaneFeatures:
        """Return features of the same structure with other tensors."""
        rest = iter(tensors)
        return self._from_groups(tuple(islice(rest, len(group))) for group in self._groups)

    @classmethod
    def join(cls, planes: Sequence[PlaneFeatures]) -> PlaneFeatures:
        """Return the features of several planes, in the given order, without copying."""
        groups = zip(*(plane._groups for plane in planes), strict=True)
        return cls._from_groups(tuple(chain.from_iterable(group)) for group in groups)

    def select(self, index: Tensor) -> PlaneFeatures:
        """Return the features of planes by index, in the order of ``index``."""
        return self._from_groups(
            (cat_planes(group)[index],) if group else () for group in self._groups
        )

    @property
    def _groups(self) -> list[PlaneTensors]:
        return [*self.levels, self.fine, self.keys, self.texture, self.surfaces]

    @staticmethod
    def _from_groups(groups: Iterable[PlaneTensors]) -> PlaneFeatures:
        *levels, fine, keys, texture, surfaces = groups
        return PlaneFeatures(tuple(levels), fine, keys, texture, surfaces)


class LightEncoder(nn.Module):
    """Small convolutional trunk with a top-down path, and keys at full resolution."""

    def __init__(self, config: DualFocusConfig) -> None:
        super().__init__()
        half, *widths = config.encoder
        self.measures = config.measures
        channels = 3 + (len(LAPLACIAN_STEPS) if config.measures else 0)
        # Fold pixels into channels instead of striding: blur shows in the finest detail.
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
        """Encode (M, 3, H, W) images in [0, 1]."""
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
                # A view, to store the measures once.
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
    """ResNet-18 with the neck of DFV, our reading of the published DualFocus."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18()
        self.neck = PyramidNeck()
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN)[:, None, None], False)
        self.register_buffer('std', torch.tensor(IMAGENET_STD)[:, None, None], False)

    def forward(self, images: Tensor) -> PlaneFeatures:
        """Encode (M, 3, H, W) images in [0, 1]."""
        normalised = (images - self.mean) / self.std
        return PlaneFeatures(tuple((level,) for level in self.neck(self.trunk(normalised))))
