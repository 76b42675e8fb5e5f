# SPDX-License-Identifier: Apache-2.0
"""Decoder: heads and levels from plane features to focus probabilities."""

from __future__ import annotations

from collections.abc import Sequence
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.models.layers import (
    FocalBlock,
    FullFocalBlock,
    PlaneTensors,
    cat_planes,
    conv_bn,
    conv_to_one_channel,
    differential_volume,
    downsample2x,
    finish_difference_conv,
    inplace_add,
    inplace_relu,
    precompute_difference_conv,
    upsample_bilinear,
)
from dualfocus_ros.models.projection import integrate

# Minimum numbers of planes for each pass of smoothing the logits along focus.
# Chosen so that p is unimodal at 99 % of the pixels of generated views (seeds 0, 31 and 32).
SMOOTHING_MIN_PLANES = (16, 26)


def expectation(probability: Tensor, values: Tensor) -> Tensor:
    """Return sum p_n v_n, (B, H, W), of p (B, N, H, W) and v (B, N).

    In float32 even under autocast: half precision would leave 256 or 2048 depth steps per sweep.
    """
    return weighted_sum(values[:, None], probability)[:, 0]


def weighted_sum(weights: Tensor, planes: Tensor) -> Tensor:
    """Return weighted sums, (B, M, H, W), of planes (B, N, H, W) with weights (B, M, N)."""
    with torch.autocast(planes.device.type, enabled=False):
        product = torch.bmm(weights.float(), planes.float().flatten(2))
    return product.unflatten(2, planes.shape[2:])


def constant_maps(values: Tensor, like: Tensor) -> Tensor:
    """Return values (M, K) as maps (M, K, h, w) of the size of ``like``."""
    return values[..., None, None].expand(-1, -1, *like.shape[-2:])


class SurfaceHead(nn.Module):
    """Gradient features, integrable projection z* and theta_grad (DualFocus section 3.2)."""

    def __init__(self, channels: int, surfaces: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [channels, *hidden]
        self.hidden = nn.Sequential(
            *(nn.Sequential(conv_bn(i, o), nn.ReLU()) for i, o in zip(widths, hidden))
        )
        self.gradient = nn.Conv2d(widths[-1], 2 * surfaces, 3, padding=1)
        # z* grows with the size of the grid; the decoder needs a scale independent of it.
        self.norm = nn.GroupNorm(1, surfaces)
        self.theta = nn.Conv2d(surfaces, 2, 3, padding=1, padding_mode='replicate', bias=False)

    def precompute(self, features: Tensor) -> Tensor:
        """Return the per-plane part of the first convolution for features (M, C, h, w).

        See :func:`precompute_difference_conv`.
        """
        value, difference, _ = self._first_weights(features.shape[1])
        convolution, _ = _conv_and_norm(next(self.hidden[0].children()))
        return precompute_difference_conv(features, value, difference, convolution.bias)

    def forward(
        self, partial: PlaneTensors, condition: Tensor | None, planes: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return normalised surfaces (B*N, C2, h, w) and gradients (B*N, 2, h, w).

        Only the loss needs the gradients: they are None while autograd is off.

        :param partial: by :meth:`precompute`.
        :param condition: (B*N, K), constant over the image.
        """
        (first, activation), *others = (tuple(layer.children()) for layer in self.hidden)
        convolution, norm = _conv_and_norm(first)
        x = finish_difference_conv(partial, planes)
        if condition is not None:
            inputs = (convolution.in_channels - condition.shape[1]) // 2
            # Full maps, since zero padding makes the result differ at the border.
            weight = self._first_weights(inputs)[2]
            x = inplace_add(x, functional.conv2d(constant_maps(condition, x), weight, padding=1))
        x = activation(norm(x))
        for layer, activation in others:
            x = activation(layer(x))
        gx, gy = self.gradient(x).chunk(2, dim=1)
        surfaces = integrate(gx, gy)
        gradients = self.theta(surfaces.to(x.dtype)) if torch.is_grad_enabled() else None
        return self.norm(surfaces).to(x.dtype), gradients

    def _first_weights(self, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights of plane values (``inputs`` channels), differences and conditions."""
        weight = _conv_and_norm(next(self.hidden[0].children()))[0].weight
        return weight[:, :inputs], weight[:, inputs : 2 * inputs], weight[:, 2 * inputs :]


def _conv_and_norm(module: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """Return a convolution and its normalisation, the identity after batch norm folding."""
    norm: nn.Module = nn.Identity()
    if isinstance(module, nn.Sequential):
        module, norm = module
    assert isinstance(module, nn.Conv2d)
    return module, norm


class DecoderLevel(nn.Module):
    """Merge the volume, the surfaces and the coarser level, then convolve over planes and space.

    :param widths: channels of plane features, conditions, surfaces and the coarser level.
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
        self.widths = (features, features, *others)
        inputs = sum(self.widths)
        self.level = level
        self.merge: nn.Module | None = None if full_3d else conv_bn(inputs, channels, 1)
        self.blocks = nn.ModuleList(
            FullFocalBlock(channels if index else inputs, channels)
            if full_3d
            else FocalBlock(channels)
            for index in range(blocks)
        )

    def precompute(self, features: Tensor) -> Tensor:
        """Return the per-plane part of the merge for features (M, C, h, w).

        See :func:`precompute_difference_conv`; a level of 3-D convolutions has no such part.
        """
        if self.merge is None:
            return features
        convolution, _ = _conv_and_norm(self.merge)
        value, difference, *_ = convolution.weight.split(self.widths, dim=1)
        return precompute_difference_conv(features, value, difference, convolution.bias)

    def forward(
        self,
        features: PlaneTensors,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return (B*N, channels, h, w).

        :param features: (B*N, C', h, w) by :meth:`precompute`.
        :param condition: (B*N, K), constant over the image.
        :param surfaces: (B*N, C2, H/8, W/8).
        :param coarser: (B*N, C', h/2, w/2).
        """
        if self.merge is None:
            volume = [differential_volume(cat_planes(features), planes)]
            if condition is not None:
                volume.append(constant_maps(condition, volume[0]))
            if surfaces is not None:
                volume.append(self._resize_surfaces(surfaces))
            if coarser is not None:
                volume.append(upsample_bilinear(coarser, 2))
            x = torch.cat(volume, dim=1)
        else:
            x = inplace_relu(self._merge_inputs(features, condition, surfaces, coarser, planes))
        for block in self.blocks:
            x = block(x, planes)
        return x

    def _merge_inputs(
        self,
        features: PlaneTensors,
        condition: Tensor | None,
        surfaces: Tensor | None,
        coarser: Tensor | None,
        planes: int,
    ) -> Tensor:
        """Return the 1x1 convolution of all inputs without concatenating them.

        The sum of one convolution per input is the same. A 1x1 convolution also commutes with
        differences and upsampling, which then have fewer channels.
        """
        assert self.merge is not None
        convolution, norm = _conv_and_norm(self.merge)
        _, _, condition_weight, surface_weight, coarser_weight = convolution.weight.split(
            self.widths, dim=1
        )
        x = finish_difference_conv(features, planes)
        if surfaces is not None:
            # Convolve at the smaller of the two sizes.
            if self.level == 0:
                maps = self._resize_surfaces(functional.conv2d(surfaces, surface_weight))
            else:
                maps = functional.conv2d(self._resize_surfaces(surfaces), surface_weight)
            x = inplace_add(x, maps)
        # Add the constant to the smaller map.
        small = x if coarser is None else functional.conv2d(coarser, coarser_weight)
        if condition is not None:
            constant = functional.linear(condition, condition_weight[:, :, 0, 0])[..., None, None]
            small = inplace_add(small, constant)
        return norm(small if coarser is None else inplace_add(x, upsample_bilinear(small, 2)))

    def _resize_surfaces(self, surfaces: Tensor) -> Tensor:
        """Resize surfaces from 1/8 of the image to this level."""
        if self.level == 0:
            return upsample_bilinear(surfaces, 2)
        if self.level == 1:
            return surfaces
        return functional.avg_pool2d(surfaces, 2 ** (self.level - 1))


def smooth_along_focus(logits: Tensor, fraction: Tensor) -> Tensor:
    """Smooth the logits of a dense sweep along its planes.

    The blur of neighbouring planes of a dense sweep differs by less than the noise, which would
    give p several peaks. Logits linear in focus stay unchanged, also in uneven sweeps, and so does
    an expectation far from the ends.

    :param logits: (B, N, H, W).
    :param fraction: (B, N) focus of the planes from 0 to 1, ascending.
    """
    planes = logits.shape[1]
    passes = sum(planes >= minimum for minimum in SMOOTHING_MIN_PLANES)
    if not passes:
        return logits
    # The lower limit makes planes at equal focus share evenly.
    gaps = (fraction[:, 1:] - fraction[:, :-1]).clamp_min(1e-6)
    before, after = torch.cat([gaps[:, :1], gaps], 1), torch.cat([gaps, gaps[:, -1:]], 1)
    # Kernel (1/4, 1/2, 1/4) in an even sweep: a variance of half a squared step. Other spacings
    # keep that variance, limited to equal weights of both sides.
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
    """Subtract a parabola about the mean plane from the logits, with a curvature per pixel.

    A large curvature makes p unimodal: far tails cannot rise again. The logits of dense sweeps are
    smoothed first, see :func:`smooth_along_focus`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.curvature = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.constant_(self.curvature.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, mean_features: Tensor, fraction: Tensor) -> Tensor:
        """Return logits of the same shape, in float32.

        :param logits: (B, N, H, W).
        :param mean_features: (B, C, H/4, W/4) decoder features, averaged over the planes.
        :param fraction: (B, N) focus of the planes from 0 to 1.
        """
        logits = smooth_along_focus(logits, fraction)
        steps = fraction * (fraction.shape[1] - 1)
        mean = expectation(torch.softmax(logits.float(), dim=1), steps)[:, None]
        curvature = functional.softplus(conv_to_one_channel(self.curvature, mean_features).float())
        curvature = upsample_bilinear(curvature, 4)
        # -c (s - m)^2 without c m^2, which softmax cancels.
        steps = steps[..., None, None]
        linear = torch.addcmul(logits.float(), steps, 2.0 * curvature * mean)
        return torch.addcmul(linear, steps.square(), curvature, value=-1.0)


class SigmaHead(nn.Module):
    """Log standard deviation from the shape of p, in units of the mean plane spacing."""

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
        """Multiply all later predictions by ``factor``."""
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias += math.log(factor)

    def forward(
        self, spread: Tensor, peak: Tensor, texture: Tensor, context: Tensor | None
    ) -> Tensor:
        """Return log sigma (B, 1, H, W): the log spread plus a correction, learned at half size.

        :param spread: (B, 1, H, W) standard deviation of p, in plane spacings.
        :param peak: (B, 1, H, W) largest probability.
        :param texture: (B, 2, H, W) focus measures.
        :param context: (B, K, H/4, W/4), may include padding on the right and below.
        """
        log_spread, pixels = self.inputs(spread, peak, texture, context)
        correction = upsample_bilinear(self.layers(pixels), 2)
        return inplace_add(correction[..., : spread.shape[-2], : spread.shape[-1]], log_spread)

    def inputs(
        self, spread: Tensor, peak: Tensor, texture: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the log spread (B, 1, H, W) and the inputs of its correction (B, C, H/2, W/2)."""
        log_spread = torch.log(spread + 0.02)
        inputs = [downsample2x(values) for values in (log_spread, peak, texture)]
        height, width = inputs[0].shape[-2:]
        if context is not None:
            inputs.append(upsample_bilinear(context, 2)[..., :height, :width])
        # Concatenate in channels-last order, the format of the convolutions, to save a copy.
        pixels = torch.cat([values.movedim(1, -1) for values in inputs], dim=-1)
        return log_spread, pixels.movedim(-1, 1)
