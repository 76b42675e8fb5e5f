# SPDX-License-Identifier: Apache-2.0
"""Heads and levels that turn the planes' features into focus probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.models.encoders import PlaneTensors, cat_planes, split_planes
from dualfocus_ros.models.layers import (
    FocalBlock,
    FullFocalBlock,
    conv_bn,
    conv_to_one_channel,
    differential_volume,
    downsample2x,
    inplace_add,
    inplace_relu,
    upsample_bilinear,
)
from dualfocus_ros.models.projection import integrate

# From so many planes on the logits are smoothed along them, once more from each of these on.
# Chosen so that p has one peak at 99 % of the pixels, on generated views (seeds 0, 31 and 32).
SMOOTHING_MIN_PLANES = (16, 26)


def expectation(probability: Tensor, values: Tensor) -> Tensor:
    """Return sum p_n v_n, (B, H, W), of p (B, N, H, W) and v (B, N): one product of matrices.

    In float32 even under autocast, in which 256 or 2048 steps of depth would be left of a sweep.
    """
    return weighted_sum(values[:, None], probability)[:, 0]


def weighted_sum(weights: Tensor, planes: Tensor) -> Tensor:
    """Return sums over the planes, (B, M, H, W), of (B, N, H, W) with weights (B, M, N).

    In float32 even under autocast.
    """
    with torch.autocast(planes.device.type, enabled=False):
        product = torch.bmm(weights.float(), planes.float().flatten(2))
    return product.unflatten(2, planes.shape[2:])


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

    def split_planes(self, features: Tensor) -> Tensor:
        """Return what the first convolution makes of planes (M, C, h, w), each on its own.

        See :func:`precompute_difference_conv`.
        """
        value, steps, _ = self._first_weights(features.shape[1])
        convolution, _ = _convolution(next(self.hidden[0].children()))
        return precompute_difference_conv(features, value, steps, convolution.bias)

    def forward(
        self, begun: PlaneTensors, condition: Tensor | None, planes: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return normalised surfaces (B*N, C2, h, w) and gradients (B*N, 2, h, w).

        Only the loss asks for the gradients: they are None where nothing is learned.

        :param begun: (B*N, C', h, w) by :meth:`split_planes`.
        :param condition: (B*N, K) the same over the image.
        """
        (first, activation), *others = (tuple(layer.children()) for layer in self.hidden)
        convolution, norm = _convolution(first)
        x = finish_difference_conv(begun, planes)
        if condition is not None:
            inputs = (convolution.in_channels - condition.shape[1]) // 2
            # Not the same at the border, beyond which there is nothing.
            maps = condition[..., None, None].expand(-1, -1, *x.shape[-2:])
            x = inplace_add(x, functional.conv2d(maps, self._first_weights(inputs)[2], padding=1))
        x = activation(norm(x))
        for layer, activation in others:
            x = activation(layer(x))
        gx, gy = self.gradient(x).chunk(2, dim=1)
        surfaces = integrate(gx, gy)
        gradients = self.theta(surfaces.to(x.dtype)) if torch.is_grad_enabled() else None
        return self.norm(surfaces).to(x.dtype), gradients

    def _first_weights(self, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights for planes of this many channels, their steps and the conditions."""
        weight = _convolution(next(self.hidden[0].children()))[0].weight
        return weight[:, :inputs], weight[:, inputs : 2 * inputs], weight[:, 2 * inputs :]


def _convolution(module: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """Return a convolution and its normalisation; fusing leaves the convolution alone."""
    norm: nn.Module = nn.Identity()
    if isinstance(module, nn.Sequential):
        module, norm = module
    assert isinstance(module, nn.Conv2d)
    return module, norm


def precompute_difference_conv(
    features: Tensor, here: Tensor, steps: Tensor, bias: Tensor | None
) -> Tensor:
    """Return what a convolution of the differential volume makes of planes, each on its own.

    That convolution is one of the planes and one of their steps together, A V_n + B (V_{n+1} -
    V_n), and a step may as well be taken after it: in the first half of the channels is (A - B)
    V_n, in the second B V_n, for :func:`finish_difference_conv`.

    :param features: (M, C, h, w).
    :param here: A, (C', C, k, k).
    :param steps: B, likewise.
    """
    if bias is not None:
        bias = torch.cat([bias, torch.zeros_like(bias)])
    weight = torch.cat([here - steps, steps])
    return functional.conv2d(features, weight, bias, padding=here.shape[-1] // 2)


def finish_difference_conv(begun: PlaneTensors, planes: int) -> Tensor:
    """Return the convolution of the differential volume, (B*N, C', h, w); see :func:`precompute_difference_conv`.

    :param begun: (B*N, 2 C', h, w).
    """
    halves = [plane.chunk(2, dim=1) for plane in split_planes(begun, planes)]
    (_, before), (last, ahead) = halves[-2:]
    # The step of the last plane is the one before it.
    pairs = [(here, following) for (here, _), (_, following) in pairwise(halves)]
    pairs.append((last, 2.0 * ahead - before))
    if torch.is_grad_enabled():
        return torch.stack([here + following for here, following in pairs], dim=1).flatten(0, 1)
    # The same without writing everything twice.
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


class DecoderLevel(nn.Module):
    """Merge the volume, the surfaces and the coarser level, then mix along planes and space.

    :param widths: channels of the planes' features, of the conditions, surfaces and coarser level.
    :param level: 0 at 1/4 of the image, 1 at 1/8, ..., -1 at 1/2 (without surfaces).
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        channels: int,
        blocks: int,
        full_3d: bool,
        level: int,
    ) -> None:
        super().__init__()
        features, *others = widths
        self.parts = (features, features, *others)
        inputs = sum(self.parts)
        self.level = level
        self.merge: nn.Module | None = None if full_3d else conv_bn(inputs, channels, 1)
        self.blocks = nn.ModuleList(
            FullFocalBlock(channels if index else inputs, channels)
            if full_3d
            else FocalBlock(channels)
            for index in range(blocks)
        )

    def split_planes(self, features: Tensor) -> Tensor:
        """Return what this level needs of planes (M, C, h, w), each on its own.

        See :func:`precompute_difference_conv`; a level of whole 3-D convolutions has no such part.
        """
        if self.merge is None:
            return features
        convolution, _ = _convolution(self.merge)
        here, steps, *_ = convolution.weight.split(self.parts, dim=1)
        return precompute_difference_conv(features, here, steps, convolution.bias)

    def forward(
        self,
        features: PlaneTensors,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return (B*N, channels, h, w).

        :param features: (B*N, C', h, w) by :meth:`split_planes`.
        :param condition: (B*N, K) the same over the image.
        :param surfaces: (B*N, C2, H/8, W/8).
        :param coarser: (B*N, C', h/2, w/2).
        """
        if self.merge is None:
            difference = differential_volume(cat_planes(features), planes)
            volume = [append_conditions(difference, condition)]
            if surfaces is not None:
                volume.append(self._resized(surfaces))
            if coarser is not None:
                volume.append(upsample_bilinear(coarser, 2))
            x = torch.cat(volume, dim=1)
        else:
            x = inplace_relu(self._merged(features, condition, surfaces, coarser, planes))
        for block in self.blocks:
            x = block(x, planes)
        return x

    def _merged(
        self,
        features: PlaneTensors,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return the 1x1 convolution of all inputs together, without putting them together.

        Each has its part of the weights, and a 1x1 convolution may as well come before
        differences and enlargement: then these have fewer channels.
        """
        assert self.merge is not None
        convolution, norm = _convolution(self.merge)
        _, _, given, shaped, above = convolution.weight.split(self.parts, dim=1)
        x = finish_difference_conv(features, planes)
        if surfaces is not None:
            # Enlarged last and shrunk first.
            x = inplace_add(
                x,
                self._resized(functional.conv2d(surfaces, shaped))
                if self.level == 0
                else functional.conv2d(self._resized(surfaces), shaped),
            )
        if condition is not None:
            constant = functional.linear(condition, given[:, :, 0, 0])[..., None, None]
        if coarser is not None:
            small = functional.conv2d(coarser, above)
            x = inplace_add(
                x,
                upsample_bilinear(small if condition is None else inplace_add(small, constant), 2),
            )
        elif condition is not None:
            x = inplace_add(x, constant)
        return norm(x)

    def _resized(self, surfaces: Tensor) -> Tensor:
        if self.level == 0:
            return upsample_bilinear(surfaces, 2)
        if self.level == 1:
            return surfaces
        return functional.avg_pool2d(surfaces, 2 ** (self.level - 1))


def append_conditions(volume: Tensor, condition: Tensor | None) -> Tensor:
    """Return a volume (M, C, h, w) with conditions (M, K) as further, constant channels."""
    if condition is None:
        return volume
    maps = condition[..., None, None].expand(-1, -1, *volume.shape[-2:])
    return torch.cat([volume, maps], dim=1)


def smooth_along_focus(logits: Tensor, fraction: Tensor) -> Tensor:
    """Return the logits of a dense sweep, each with a share of its neighbours'.

    Planes so close differ by less blur than noise makes of it, and p would have a peak at several
    of them. What is linear in the focus stays as it is, however uneven the sweep, and so does an
    expectation far from its ends.

    :param logits: (B, N, H, W).
    :param fraction: (B, N) planes from 0 to 1, ascending.
    """
    planes = logits.shape[1]
    passes = sum(planes >= least for least in SMOOTHING_MIN_PLANES)
    if not passes:
        return logits
    # Two planes at the same focus share evenly.
    gaps = (fraction[:, 1:] - fraction[:, :-1]).clamp_min(1e-6)
    before, after = torch.cat([gaps[:, :1], gaps], 1), torch.cat([gaps, gaps[:, -1:]], 1)
    # Of an even sweep a half stays and a quarter goes to each side, a variance of half a step
    # squared; it is the same for planes farther apart, and nearer ones at most share evenly.
    variance = 0.5 / (planes - 1) ** 2
    share = torch.minimum(variance / (before * after), before.new_tensor(0.5)) / (before + after)
    below, above = share * after, share * before
    here = torch.eye(planes, dtype=gaps.dtype, device=gaps.device)
    matrix = (
        (1.0 - below - above)[..., None] * here
        + below[..., None] * torch.cat([here[:1], here[:-1]])
        + above[..., None] * torch.cat([here[1:], here[-1:]])
    )
    for _ in range(passes):
        logits = weighted_sum(matrix, logits)
    return logits


class FocusWindow(nn.Module):
    """Bends logits down away from their mean plane, by a curvature that each pixel chooses.

    Where the curvature outweighs what the logits still say, p falls to both sides of its peak:
    far tails cannot rise again. Of many planes, neighbours are smoothed first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.curvature = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.constant_(self.curvature.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, mean_features: Tensor, fraction: Tensor) -> Tensor:
        """Return logits of the same shape, in float32.

        :param logits: (B, N, H, W).
        :param mean_features: (B, C, H/4, W/4) the decoder's, averaged over the planes.
        :param fraction: (B, N) planes from 0 to 1.
        """
        logits = smooth_along_focus(logits, fraction)
        steps = fraction * (fraction.shape[1] - 1)
        mean = expectation(torch.softmax(logits.float(), dim=1), steps)[:, None]
        curvature = functional.softplus(conv_to_one_channel(self.curvature, mean_features).float())
        curvature = upsample_bilinear(curvature, 4)
        # -c (s - m)^2 up to c m^2, which is the same for all planes and so says nothing.
        steps = steps[..., None, None]
        bent = torch.addcmul(logits.float(), steps, 2.0 * curvature * mean)
        return torch.addcmul(bent, steps.square(), curvature, value=-1.0)


class SigmaHead(nn.Module):
    """Log standard deviation, in units of the mean plane spacing, from the shape of p."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4 + context, 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 1, 1),
        )

    def scale(self, factor: float) -> None:
        """Multiply every predicted standard deviation by ``factor`` from now on."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias += math.log(factor)

    def forward(
        self, spread: Tensor, peak: Tensor, texture: Tensor, context: Tensor | None
    ) -> Tensor:
        """Return the logarithm, (B, 1, H, W): that of the spread, corrected.

        The correction varies less than the spread; at half the size it costs a quarter.

        :param spread: (B, 1, H, W) standard deviation of p, in the same units.
        :param peak: (B, 1, H, W) the largest of the probabilities.
        :param texture: (B, 2, H, W).
        :param context: (B, K, H/4, W/4), of images that may be padded to the right and below.
        """
        log_spread, pixels = self.inputs(spread, peak, texture, context)
        correction = upsample_bilinear(self.layers(pixels), 2)
        return inplace_add(correction[..., : spread.shape[-2], : spread.shape[-1]], log_spread)

    def inputs(
        self, spread: Tensor, peak: Tensor, texture: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the spread, and (B, C, H/2, W/2) what corrects it."""
        log_spread = torch.log(spread + 0.02)
        parts = [downsample2x(part) for part in (log_spread, peak, texture)]
        height, width = parts[0].shape[-2:]
        if context is not None:
            parts.append(upsample_bilinear(context, 2)[..., :height, :width])
        # With channels last, as the convolutions want them: else all of it is copied once more.
        pixels = torch.cat([part.movedim(1, -1) for part in parts], dim=-1)
        return log_spread, pixels.movedim(-1, 1)
