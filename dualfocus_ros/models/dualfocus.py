# SPDX-License-Identifier: Apache-2.0
"""DualFocus: depth from a focal stack with spatial and focal variational constraints.

Woo and Lee, NeurIPS 2025 (arXiv 2509.21992). Extensions, each switched by the configuration: focus
distances and focus measures as further inputs, the expectation in dioptres (blur is linear in
them), decoding to full resolution, and a predicted standard deviation. ``dualfocus-paper`` has
none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import reduce

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.models.decoder import (
    DecoderLevel,
    FocusWindow,
    SigmaHead,
    SurfaceHead,
    expectation,
)
from dualfocus_ros.models.dualfocus_config import DualFocusConfig
from dualfocus_ros.models.encoders import LightEncoder, PlaneFeatures, ResNetEncoder
from dualfocus_ros.models.focus_measure import LAPLACIAN_STEPS
from dualfocus_ros.models.layers import (
    PlaneTensors,
    cat_planes,
    conv_to_one_channel,
    is_cpu_inference,
    plane_mean,
    smooth3x3,
    split_planes,
    upsample_bilinear,
)

CONDITION_CHANNELS = 3
# Largest depth in metres of networks whose expectation is in metres.
MAX_METRES = 100.0


@dataclass(frozen=True)
class Prediction:
    """Output of the network for a batch of stacks.

    :param dioptres: (B, H, W) inverse depth in 1/m.
    :param sigma: (B, H, W) one standard deviation of the inverse depth in 1/m; NaN if not
        requested.
    :param probability: (B, N, H, W) focus probability p_n, planes in the caller's order.
    :param value: (B, H, W) sum p_n f_n in the unit of the expectation: inverse depth with 0 at
        the farthest plane and 1 at the nearest, or metres.
    :param value_sigma: (B, H, W) standard deviation of ``value``.
    :param positions: (B, N) focus f_n in the unit of ``value``, planes from far to near.
    :param coarse_probability: (B, N, H/4, W/4), planes from far to near.
    :param gradients: (B, N, 2, H/8, W/8) theta_grad(z*): differences of ``value`` between
        neighbouring cells, estimated from the surfaces of each plane, planes from far to near;
        None without surfaces and while autograd is off.
    """

    dioptres: Tensor
    sigma: Tensor
    probability: Tensor
    value: Tensor
    value_sigma: Tensor
    positions: Tensor
    coarse_probability: Tensor
    gradients: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of the fields."""
        values = (getattr(self, field.name) for field in fields(self))
        return [value for value in values if value is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> Prediction:
        """Return a prediction of the same structure with other tensors."""
        return Prediction(*tensors)


class DualFocus(nn.Module):
    """DualFocus network for two or more planes in any order and images of any size."""

    def __init__(self, config: DualFocusConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DualFocusConfig()
        conditions = CONDITION_CHANNELS if config.conditioning else 0
        above = [*config.decoder[1:], 0]
        light = config.trunk == 'light'
        self.encoder = LightEncoder(config) if light else ResNetEncoder()
        self.surfaces: SurfaceHead | None = None
        if config.surfaces:
            hidden = (32,) if light else (128, 128)
            volume = 2 * config.volume[1] + conditions
            self.surfaces = SurfaceHead(volume, config.surfaces, hidden)
        self.levels = nn.ModuleList(
            DecoderLevel(
                (features, conditions, config.surfaces, coarser),
                width,
                config.blocks,
                config.full_3d,
                level,
            )
            for level, (features, coarser, width) in enumerate(
                zip(config.volume, above, config.decoder)
            )
        )
        self.logit = nn.Conv2d(config.decoder[0], 1, 3, padding=1)
        self.fine: DecoderLevel | None = None
        if config.fine:
            widths = (config.fine, conditions, 0, config.decoder[0])
            self.fine = DecoderLevel(widths, config.fine, 1, False, -1)
            self.fine_logit = nn.Conv2d(config.fine, 1, 3, padding=1)
        keys = config.keys + (len(LAPLACIAN_STEPS) if config.measures and config.keys else 0)
        self.query: nn.Module | None = None
        if keys:
            self.query = nn.Conv2d(2 * config.decoder[0], keys, 3, padding=1)
        self.window = FocusWindow(config.decoder[0]) if config.window else None
        self.sigma = SigmaHead(keys) if config.learned_sigma else None

    def forward(self, images: Tensor, dioptres: Tensor, with_sigma: bool = True) -> Prediction:
        """Estimate the inverse depth of stacks.

        :param images: (B, N, 3, H, W) RGB in [0, 1], aligned.
        :param dioptres: (B, N) focus of each plane in 1/m.
        :param with_sigma: whether to compute the standard deviation.
        :raises ValueError: for mismatched shapes, fewer than two planes, or equal focus of all
            planes.
        """
        if images.dim() != 5 or images.shape[2] != 3:
            raise ValueError(f'images must be (B, N, 3, H, W), got {tuple(images.shape)}')
        if dioptres.shape != images.shape[:2]:
            raise ValueError(
                f'dioptres must be (B, N) = {tuple(images.shape[:2])}, got {tuple(dioptres.shape)}'
            )
        features = self.encode(images.flatten(0, 1))
        return self.decode(features, dioptres, images.shape[-2:], with_sigma)

    def encode(self, images: Tensor) -> PlaneFeatures:
        """Return the features of single planes, with the per-plane part of the decoder applied.

        :param images: (M, 3, H, W) in [0, 1].
        """
        images = smooth3x3(images, self.config.smoothing)
        bottom, right = (-side % self.config.stride for side in images.shape[-2:])
        if bottom or right:
            images = functional.pad(images, (0, right, 0, bottom), mode='replicate')
        features: PlaneFeatures = self.encoder(images)
        levels = []
        for level, tensors in zip(self.levels, features.levels, strict=True):
            assert isinstance(level, DecoderLevel)
            levels.append((level.precompute(cat_planes(tensors)),))
        if self.fine is not None:
            features = replace(features, fine=(self.fine.precompute(cat_planes(features.fine)),))
        if self.surfaces is not None:
            surfaces = self.surfaces.precompute(cat_planes(features.levels[1]))
            features = replace(features, surfaces=(surfaces,))
        return replace(features, levels=tuple(levels))

    def decode(
        self,
        features: PlaneFeatures,
        dioptres: Tensor,
        size: tuple[int, int] | torch.Size,
        with_sigma: bool = True,
    ) -> Prediction:
        """Estimate the inverse depth of stacks from plane features.

        :param features: of the B * N planes, stack by stack.
        :param dioptres: (B, N) focus of each plane in 1/m.
        :param size: height and width of the images in pixels.
        :raises ValueError: for fewer than two planes, or equal focus of all planes.
        """
        _check_focus(dioptres)
        batch, planes = dioptres.shape
        order = torch.argsort(dioptres, dim=1, stable=True)
        far_to_near = torch.gather(dioptres, 1, order)
        if torch.equal(far_to_near, dioptres):
            return self.decode_sorted(features, dioptres, size, with_sigma)
        first = planes * torch.arange(batch, device=order.device)[:, None]
        features = features.select((order + first).flatten())
        prediction = self.decode_sorted(features, far_to_near, size, with_sigma)
        probability = prediction.probability
        inverse = torch.argsort(order, dim=1)[..., None, None].expand_as(probability)
        return replace(prediction, probability=torch.gather(probability, 1, inverse))

    def decode_sorted(
        self,
        features: PlaneFeatures,
        far_to_near: Tensor,
        size: tuple[int, int] | torch.Size,
        with_sigma: bool = True,
    ) -> Prediction:
        """Decode planes sorted from far to near, without the checks of :meth:`decode`.

        No synchronisation and no control flow by values, so that CUDA graphs and ONNX export work.
        """
        low = far_to_near[:, :1]
        span = far_to_near[:, -1:] - low
        fraction = (far_to_near - low) / span
        metres = self.config.unit == 'metres'
        positions = 1.0 / far_to_near.clamp_min(1.0 / MAX_METRES) if metres else fraction

        logits, coarse, gradients, context = self._logits(features, fraction)
        height, width = size
        logits = logits[..., :height, :width].float()
        probability = torch.softmax(logits, dim=1)
        value = expectation(probability, positions)
        value_sigma = value.new_full((), torch.nan).expand_as(value)
        if with_sigma:
            value_sigma = self._sigma(probability, value, positions, features, context)
        if metres:
            dioptres = 1.0 / value
            sigma = value_sigma * dioptres.square()
        else:
            dioptres = low[..., None] + span[..., None] * value
            sigma = span[..., None] * value_sigma
        return Prediction(
            dioptres=dioptres,
            sigma=sigma,
            probability=probability,
            value=value,
            value_sigma=value_sigma,
            positions=positions,
            coarse_probability=torch.softmax(coarse.float(), dim=1),
            gradients=gradients,
        )

    def _logits(
        self, features: PlaneFeatures, fraction: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return logits (B, N, H, W), coarse (B, N, h, w), gradients and queries (B, K, h, w)."""
        batch, planes = fraction.shape
        condition = None
        if self.config.conditioning:
            condition = _sweep_conditions(fraction).to(features.levels[0][0].dtype)
        surfaces = gradients = None
        if self.surfaces is not None:
            surfaces, gradients = self.surfaces(features.surfaces, condition, planes)
            if gradients is not None:
                gradients = gradients.view(batch, planes, *gradients.shape[1:])
        x: Tensor | None = None
        for level, features_here in zip(
            reversed(self.levels), reversed(features.levels), strict=True
        ):
            x = level(features_here, condition, surfaces, x, planes)
        assert x is not None
        coarse = conv_to_one_channel(self.logit, x)
        coarse = coarse.view(batch, planes, *coarse.shape[-2:])
        mean = plane_mean(x, planes)
        if self.fine is None:
            logits = upsample_bilinear(coarse, 4)
        else:
            fine = self.fine(features.fine, condition, None, x, planes)
            finer = conv_to_one_channel(self.fine_logit, fine)
            finer = finer.view(batch, planes, *finer.shape[-2:])
            logits = upsample_bilinear(upsample_bilinear(coarse, 2) + finer, 2)
        queries = None
        if self.query is not None:
            # One query per pixel for all planes: which evidence counts there.
            # Plane by plane like plane_mean(): a reduction over them is slow.
            largest = reduce(torch.maximum, x.view(batch, planes, *x.shape[1:]).unbind(dim=1))
            queries = self.query(torch.cat([mean, largest], dim=1))
            keys = split_planes(features.keys, planes)
            # Contiguous by channel, the memory format of the keys.
            logits = _add_query_scores(logits, upsample_bilinear(queries.contiguous(), 4), keys)
        if self.window is not None:
            logits = self.window(logits, mean, fraction)
        return logits, coarse, gradients, queries

    def _sigma(
        self,
        probability: Tensor,
        value: Tensor,
        positions: Tensor,
        features: PlaneFeatures,
        context: Tensor | None,
    ) -> Tensor:
        """Return the standard deviation of the value, (B, H, W)."""
        # Detach: the loss of sigma must not move the depth.
        probability = probability.detach()
        mean = value.detach()
        # E[x^2] - E[x]^2 would cancel for a narrow p, most of all with many planes.
        spread = torch.zeros_like(mean)
        for weight, position in zip(probability.unbind(1), positions.unbind(1), strict=True):
            spread.addcmul_((position[:, None, None] - mean).square_(), weight)
        spread = spread.sqrt_()[:, None]
        if self.sigma is None:
            return spread[:, 0]
        planes = positions.shape[1]
        height, width = value.shape[-2:]
        spacing = (positions[:, -1:] - positions[:, :1]).abs()[..., None] / (planes - 1)
        first, *others = split_planes(features.texture, planes)
        texture = reduce(torch.maximum, others, first)
        log_sigma = self.sigma(
            spread / spacing[:, None],
            probability.amax(dim=1, keepdim=True),
            texture[..., :height, :width],
            None if context is None else context.detach(),
        )
        return torch.exp(log_sigma[:, 0].float().clamp(-5.0, 4.0)) * spacing


def _check_focus(dioptres: Tensor) -> None:
    if dioptres.dim() != 2 or dioptres.shape[1] < 2:
        raise ValueError(
            f'a focal stack needs at least 2 planes, got dioptres {tuple(dioptres.shape)}'
        )
    if not torch.isfinite(dioptres).all():
        raise ValueError(f'dioptres must be finite, got {dioptres.tolist()}')
    if bool((dioptres.amax(dim=1) <= dioptres.amin(dim=1)).any()):
        raise ValueError(
            f'all planes of a stack have the same distance, got dioptres {dioptres.tolist()}; '
            'give planes of different focus'
        )


def _add_query_scores(logits: Tensor, queries: Tensor, keys: PlaneTensors) -> Tensor:
    """Add the inner product of queries and keys to the logits; overwrites them on a CPU."""
    if not is_cpu_inference(queries):
        return logits + torch.stack([(queries * key).sum(dim=1) for key in keys], dim=1)
    # Channel by channel the sum stays in the CPU cache.
    for plane, key in zip(logits.unbind(dim=1), keys, strict=True):
        for query, value in zip(queries.unbind(dim=1), key.unbind(dim=1), strict=True):
            plane.addcmul_(query, value)
    return logits


def _sweep_conditions(fraction: Tensor) -> Tensor:
    """Return the conditioning (B*N, 3): position in the sweep, local and mean plane spacing.

    All are relative to the sweep, so that the output is the same for focus in any unit affine in
    dioptres (lens positions, disparity).
    """
    planes = fraction.shape[1]
    gaps = fraction[:, 1:] - fraction[:, :-1]
    gaps = torch.cat([gaps[:, :1], gaps, gaps[:, -1:]], dim=1)
    local = 0.5 * (gaps[:, 1:] + gaps[:, :-1]) * (planes - 1)
    mean = torch.full_like(fraction, 4.0 / (planes - 1))
    return torch.stack([2.0 * fraction - 1.0, local - 1.0, mean], dim=2).flatten(0, 1)
