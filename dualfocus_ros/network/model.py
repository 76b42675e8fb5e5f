# SPDX-License-Identifier: Apache-2.0
"""DualFocus: depth from a focal stack with spatial and focal variational constraints.

Woo and Lee, NeurIPS 2025 (arXiv 2509.21992). Ours beyond the paper: the planes' focus distances
are an input, focus measures enter beside the image, the expectation is taken in dioptres (blur is
linear in them), decoding ends at full resolution, and a standard deviation is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.network.focus_measure import STEPS, log_focus_measures
from dualfocus_ros.network.layers import (
    FocalBlock,
    FocalConv,
    ResidualBlock,
    conv_bn,
    differential_volume,
)
from dualfocus_ros.network.projection import integrate

STRIDE = 16
CONDITIONS = 3
GUIDES = 4


@dataclass(frozen=True)
class DualFocusConfig:
    """Widths of the network. Tuples go from 1/4 of the image size to 1/16.

    :param encoder: channels of the per-plane encoder at 1/2, 1/4, 1/8 and 1/16.
    :param volume: channels per plane of the focal volume at each level.
    :param decoder: channels of the decoder at each level.
    :param surfaces: C2, the number of implicit surfaces per plane.
    :param refine: channels of the full-resolution refinement.
    :param blocks: residual blocks per decoder level.
    """

    encoder: tuple[int, int, int, int] = (16, 32, 48, 80)
    volume: tuple[int, int, int] = (16, 24, 32)
    decoder: tuple[int, int, int] = (24, 32, 48)
    surfaces: int = 8
    refine: int = 8
    blocks: int = 2


@dataclass(frozen=True)
class Prediction:
    """What the network says of a batch of stacks.

    :param dioptres: (B, H, W) inverse depth in 1/m.
    :param sigma: (B, H, W) one standard deviation of the inverse depth, in 1/m; NaN where it was
        not asked for.
    :param probability: (B, N, H, W) focus probability p_n in the caller's order of planes.
    :param normalised: (B, H, W) inverse depth with 0 at the farthest plane and 1 at the nearest.
    :param normalised_sigma: (B, H, W) its standard deviation.
    :param coarse_probability: (B, N, H/4, W/4), planes from far to near, before refinement.
    :param gradients: (B, N, 2, H/8, W/8) theta_grad(z*): differences of the normalised inverse
        depth as each plane's implicit surfaces see it, planes from far to near.
    """

    dioptres: Tensor
    sigma: Tensor
    probability: Tensor
    normalised: Tensor
    normalised_sigma: Tensor
    coarse_probability: Tensor
    gradients: Tensor


class PlaneEncoder(nn.Module):
    """Features of one plane, at 1/4, 1/8 and 1/16; needs no other plane, so it can be cached."""

    def __init__(self, config: DualFocusConfig) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = config.encoder
        channels = 3 + len(STEPS)
        # Pixels are folded into channels rather than skipped: blur lives in the finest detail.
        self.stem = conv_bn(4 * channels, half)
        self.down4 = conv_bn(half, quarter, stride=2)
        self.body4 = ResidualBlock(quarter)
        self.down8 = conv_bn(quarter, eighth, stride=2)
        self.body8 = ResidualBlock(eighth)
        self.down16 = conv_bn(eighth, sixteenth, stride=2)
        self.body16 = nn.Sequential(ResidualBlock(sixteenth), ResidualBlock(sixteenth))
        v4, v8, v16 = config.volume
        self.lateral16 = conv_bn(sixteenth, v16, 1)
        self.lateral8 = conv_bn(eighth + v16, v8, 1)
        self.lateral4 = conv_bn(quarter + v8, v4, 1)

    def forward(self, images: Tensor, measures: Tensor) -> list[Tensor]:
        """Encode (B, 3, H, W) images in [0, 1] with their focus measures (B, 3, H, W)."""
        x = torch.cat([(images - 0.45) * 4.0, measures], dim=1)
        x = torch.relu(self.stem(functional.pixel_unshuffle(x, 2)))
        x4 = self.body4(torch.relu(self.down4(x)))
        x8 = self.body8(torch.relu(self.down8(x4)))
        x16 = self.body16(torch.relu(self.down16(x8)))
        f16 = torch.relu(self.lateral16(x16))
        f8 = torch.relu(self.lateral8(torch.cat([x8, _double(f16)], dim=1)))
        f4 = torch.relu(self.lateral4(torch.cat([x4, _double(f8)], dim=1)))
        return [f4, f8, f16]


class SurfaceHead(nn.Module):
    """Gradient features, their integrable projection z*, and theta_grad (DualFocus sec. 3.2)."""

    def __init__(self, channels: int, surfaces: int) -> None:
        super().__init__()
        self.hidden = conv_bn(channels, 32)
        self.gradient = nn.Conv2d(32, 2 * surfaces, 3, padding=1)
        # z* grows with the size of the grid; the decoder gets it at a size-free scale.
        self.norm = nn.GroupNorm(1, surfaces)
        self.theta = nn.Conv2d(surfaces, 2, 3, padding=1, padding_mode='replicate', bias=False)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised surfaces (B*N, C2, h, w) and gradients (B*N, 2, h, w)."""
        gamma = self.gradient(torch.relu(self.hidden(volume)))
        gx, gy = gamma.chunk(2, dim=1)
        surfaces = integrate(gx, gy)
        return self.norm(surfaces).to(volume.dtype), self.theta(surfaces.to(volume.dtype))


class DecoderLevel(nn.Module):
    """Merge the volume, the surfaces and the coarser level, then mix along planes and space."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.merge = conv_bn(inputs, channels, 1)
        self.blocks = nn.ModuleList(FocalBlock(channels) for _ in range(blocks))

    def forward(self, inputs: list[Tensor], planes: int) -> Tensor:
        x = torch.relu(self.merge(torch.cat(inputs, dim=1)))
        for block in self.blocks:
            x = block(x, planes)
        return x


class Refinement(nn.Module):
    """Sharpen the focus logits at full resolution with what the focus measures see there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = conv_bn(1 + GUIDES + 2 * len(STEPS), channels, 1)
        self.spatial = conv_bn(channels, channels)
        self.focal = FocalConv(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.logit = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, coarse: Tensor, measures: Tensor, planes: int) -> Tensor:
        """Return logits (B*N, 1, H, W) from coarse (B*N, 1 + GUIDES, H, W) and measures."""
        stack = measures.view(-1, planes, *measures.shape[1:])
        relative = (stack - stack.mean(dim=1, keepdim=True)).flatten(0, 1)
        x = torch.relu(self.merge(torch.cat([coarse, measures, relative], dim=1)))
        y = torch.relu(self.spatial(x))
        x = torch.relu(x + self.norm(self.focal(y, planes)))
        return coarse[:, :1] + self.logit(x)


class SigmaHead(nn.Module):
    """Log standard deviation, in units of the mean plane spacing, from the shape of p."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4 + GUIDES, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )  # fmt: skip

    def scale(self, factor: float) -> None:
        """Multiply every predicted standard deviation by ``factor`` from now on."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias += math.log(factor)

    def forward(self, spread: Tensor, peak: Tensor, texture: Tensor, guides: Tensor) -> Tensor:
        log_spread = torch.log(spread + 0.02)
        return log_spread + self.layers(torch.cat([log_spread, peak, texture, guides], dim=1))


class DualFocus(nn.Module):
    """The network: any number of planes from 2, any image size, any order of planes."""

    def __init__(self, config: DualFocusConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DualFocusConfig()
        v4, v8, v16 = (2 * width + CONDITIONS for width in config.volume)
        d4, d8, d16 = config.decoder
        c2 = config.surfaces
        self.encoder = PlaneEncoder(config)
        self.surfaces = SurfaceHead(v8, c2)
        self.level16 = DecoderLevel(v16 + c2, d16, config.blocks)
        self.level8 = DecoderLevel(v8 + c2 + d16, d8, config.blocks)
        self.level4 = DecoderLevel(v4 + c2 + d8, d4, config.blocks)
        self.logit = nn.Conv2d(d4, 1 + GUIDES, 3, padding=1)
        self.refine = Refinement(config.refine)
        self.sigma = SigmaHead()

    def forward(
        self, images: Tensor, dioptres: Tensor, with_sigma: bool = True
    ) -> Prediction:
        """Estimate the inverse depth of stacks.

        :param images: (B, N, 3, H, W) RGB in [0, 1], aligned.
        :param dioptres: (B, N) focus of each plane in 1/m.
        :param with_sigma: whether the standard deviation is wanted.
        :raises ValueError: for shapes that do not fit, or planes that are all focused alike.
        """
        _check(images, dioptres)
        batch, planes, _, height, width = images.shape
        order = torch.argsort(dioptres, dim=1, stable=True)
        far_to_near = torch.gather(dioptres, 1, order)
        low = far_to_near[:, :1]
        span = far_to_near[:, -1:] - low
        position = (far_to_near - low) / span
        images = torch.stack([stack[index] for stack, index in zip(images, order)])

        flat = _pad(images.flatten(0, 1))
        measures = log_focus_measures(flat)
        features = self.encoder(flat, measures)
        logits, coarse, gradients, guides = self._decode(features, measures, position)

        logits = logits.view(batch, planes, *flat.shape[-2:])[..., :height, :width].float()
        probability = torch.softmax(logits, dim=1)
        steps = position[..., None, None]
        normalised = (probability * steps).sum(dim=1)
        if with_sigma:
            sigma = self._sigma(probability, normalised, position, measures, guides)
        else:
            sigma = normalised.new_full((), torch.nan).expand_as(normalised)
        inverse = torch.argsort(order, dim=1)
        caller = torch.gather(probability, 1, inverse[..., None, None].expand_as(probability))
        return Prediction(
            dioptres=low[..., None] + span[..., None] * normalised,
            sigma=span[..., None] * sigma,
            probability=caller,
            normalised=normalised,
            normalised_sigma=sigma,
            coarse_probability=coarse,
            gradients=gradients.view(batch, planes, *gradients.shape[1:]),
        )

    def _decode(
        self, features: list[Tensor], measures: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch, planes = position.shape
        condition = _conditions(position).to(measures.dtype)
        f4, f8, f16 = (
            _with_conditions(differential_volume(level, planes), condition) for level in features
        )
        surfaces, gradients = self.surfaces(f8)
        x = self.level16([f16, functional.avg_pool2d(surfaces, 2)], planes)
        x = self.level8([f8, surfaces, _double(x)], planes)
        x = self.level4([f4, _bilinear(surfaces, 2), _double(x)], planes)
        coarse = self.logit(x)
        full = _bilinear(coarse, 4)
        logits = self.refine(full, measures, planes)
        coarse_logits = coarse[:, 0].view(batch, planes, *coarse.shape[-2:])
        coarse_probability = torch.softmax(coarse_logits.float(), dim=1)
        guides = coarse[:, 1:].view(batch, planes, GUIDES, *coarse.shape[-2:])
        # What the stack as a whole shows at each pixel: the guides weighted by where p puts it.
        seen = (guides * coarse_probability[:, :, None].to(guides.dtype)).sum(dim=1)
        return logits, coarse_probability, gradients, _bilinear(seen, 4)

    def _sigma(
        self,
        probability: Tensor,
        normalised: Tensor,
        position: Tensor,
        measures: Tensor,
        guides: Tensor,
    ) -> Tensor:
        """Return the standard deviation of the normalised inverse depth, (B, H, W)."""
        planes = position.shape[1]
        height, width = normalised.shape[-2:]
        # The mean is left to the accuracy losses: sigma only learns how wrong it is.
        probability = probability.detach()
        offsets = position[..., None, None] - normalised.detach()[:, None]
        spread = (probability * offsets.square()).sum(dim=1, keepdim=True).clamp_min(0).sqrt()
        texture = measures.view(-1, planes, *measures.shape[1:]).amax(dim=1)[:, 1:]
        log_sigma = self.sigma(
            spread * (planes - 1),
            probability.amax(dim=1, keepdim=True),
            texture[..., :height, :width],
            guides.detach()[..., :height, :width],
        )
        return torch.exp(log_sigma[:, 0].float().clamp(-5.0, 4.0)) / (planes - 1)


def _check(images: Tensor, dioptres: Tensor) -> None:
    if images.dim() != 5 or images.shape[2] != 3:
        raise ValueError(f'images must be (B, N, 3, H, W), got {tuple(images.shape)}')
    if dioptres.shape != images.shape[:2]:
        raise ValueError(
            f'dioptres must be (B, N) = {tuple(images.shape[:2])}, got {tuple(dioptres.shape)}'
        )
    if images.shape[1] < 2:
        raise ValueError(f'a focal stack needs at least 2 planes, got {images.shape[1]}')
    if not torch.isfinite(dioptres).all():
        raise ValueError('focus distances must be finite dioptres')
    if bool((dioptres.amax(dim=1) <= dioptres.amin(dim=1)).any()):
        raise ValueError('all planes of a stack are focused at the same distance')


def _pad(images: Tensor) -> Tensor:
    """Replicate the right and bottom border up to a multiple of the stride."""
    height, width = images.shape[-2:]
    bottom, right = -height % STRIDE, -width % STRIDE
    if bottom or right:
        images = functional.pad(images, (0, right, 0, bottom), mode='replicate')
    return images


def _conditions(position: Tensor) -> Tensor:
    """Return (B*N, 3): where a plane lies in the sweep, its local and the mean spacing.

    All are relative to the sweep, so that a stack in any unit that is affine in dioptres (lens
    codes, disparity) gives the same network output.
    """
    planes = position.shape[1]
    gaps = position[:, 1:] - position[:, :-1]
    gaps = torch.cat([gaps[:, :1], gaps, gaps[:, -1:]], dim=1)
    local = 0.5 * (gaps[:, 1:] + gaps[:, :-1]) * (planes - 1)
    mean = torch.full_like(position, 4.0 / (planes - 1))
    return torch.stack([2.0 * position - 1.0, local - 1.0, mean], dim=2).flatten(0, 1)


def _with_conditions(volume: Tensor, condition: Tensor) -> Tensor:
    maps = condition[..., None, None].expand(-1, -1, *volume.shape[-2:])
    return torch.cat([volume, maps], dim=1)


def _double(x: Tensor) -> Tensor:
    return _bilinear(x, 2)


def _bilinear(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(
        x, scale_factor=float(factor), mode='bilinear', align_corners=False
    )
