# SPDX-License-Identifier: Apache-2.0
"""Training losses of DualFocus (sections 3.2 to 3.4 of the paper, and sigma) and of DFV.

All are in the unit of the network's expectation: by default normalised inverse depth (0 at the
farthest plane, 1 at the nearest), so that all lenses and sweeps have equal weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.models.dualfocus import MAX_METRES, Prediction
from dualfocus_ros.models.projection import forward_differences

# Quantile that sigma predicts: the share of a normal distribution within one sigma.
ONE_SIGMA = 0.6827
# Offset of errors under the logarithm, in plane spacings.
ERROR_FLOOR = 2e-3
# Weights of the four scales of DFV, finest first.
DFV_SCALES = (8 / 15, 4 / 15, 2 / 15, 1 / 15)

LossAndTerms = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class LossWeights:
    """Weights and parameters of :func:`dualfocus_loss`.

    :param beta: of smooth-L1, in the unit of the expectation.
    :param spatial: lambda_sv of L = L_depth + lambda_sv L_sv + lambda_fv L_fv.
    :param focal: lambda_fv.
    :param coarse: weight of the regression from the 1/4-resolution probability.
    :param sigma: weight of :func:`sigma_quantile_loss`, which does not change the depth.
    :param temperature: tau of the sharpness weights q, in the unit of the expectation; None is
        half the mean plane spacing, 1 the printed formula.
    :param summed: L_sv and L_fv as sums over pixels, as printed, instead of means; their weights
        then depend on the image size.
    """

    beta: float = 0.03
    spatial: float = 0.3
    focal: float = 10.0
    coarse: float = 0.3
    sigma: float = 0.02
    temperature: float | None = None
    summed: bool = False


# The published loss. The paper omits the lambdas; these give terms of comparable size.
PAPER_LOSS = LossWeights(
    beta=1.0, spatial=1e-4, focal=1e-4, coarse=0.0, sigma=0.0, temperature=1.0, summed=True
)


def sharpness_weights(
    position: Tensor, target: Tensor, temperature: float | None = None
) -> Tensor:
    """Return the sharpness q_n = softmax_n(-|f_n - D*| / tau) of each plane at each pixel.

    The printed formula has no temperature (tau = 1) and is nearly uniform for the published focus
    lists; the default tau is half the mean plane spacing.

    :param position: f, (B, N).
    :param target: D*, (B, h, w) in the unit of ``position``.
    :returns: (B, N, h, w), detached.
    """
    distance = (position[:, :, None, None] - target[:, None]).abs()
    tau: Tensor | float | None = temperature
    if tau is None:
        tau = 0.5 * _span(position)[..., None] / (position.shape[1] - 1)
    return torch.softmax(-distance / tau, dim=1).detach()


def _span(position: Tensor) -> Tensor:
    """Return the range of positions (B, N) as (B, 1, 1)."""
    return (position[:, -1] - position[:, 0]).abs()[:, None, None]


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1.0)


def _masked_smooth_l1(estimate: Tensor, target: Tensor, mask: Tensor, beta: float) -> Tensor:
    error = functional.smooth_l1_loss(estimate, target, beta=beta, reduction='none')
    return _masked_mean(error, mask)


def masked_pool(target: Tensor, valid: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Average valid values over cells of factor x factor pixels.

    :returns: (B, h, w) means, and the mask of cells with at least half of their pixels valid.
    """
    weight = valid.to(target.dtype)
    total = functional.avg_pool2d((target * weight)[:, None], factor)[:, 0]
    share = functional.avg_pool2d(weight[:, None], factor)[:, 0]
    return total / share.clamp_min(1e-6), share >= 0.5


def spatial_constraint(
    gradients: Tensor,
    position: Tensor,
    target: Tensor,
    valid: Tensor,
    temperature: float | None = None,
    summed: bool = False,
) -> Tensor:
    """Return L_sv = sum q_n |grad D* - theta_grad(z*_n)|_1 / sum q_n over valid cells.

    :param gradients: theta_grad(z*_n), (B, N, 2, h, w), planes in the order of ``position``.
    :param target: D*, (B, h, w) at the same resolution.
    :param valid: (B, h, w) mask of ``target``.
    :param temperature: of q, see :func:`sharpness_weights`.
    :param summed: divide by the number of images instead of sum q_n.
    """
    truth = torch.stack(forward_differences(target), dim=1)[:, None]
    mask = torch.zeros_like(truth)
    mask[:, 0, 0, :, :-1] = valid[..., 1:] & valid[..., :-1]
    mask[:, 0, 1, :-1] = valid[..., 1:, :] & valid[..., :-1, :]
    weights = sharpness_weights(position, target, temperature)[:, :, None] * mask
    total = (weights * (truth - gradients).abs()).sum()
    return total / (len(target) if summed else weights.sum().clamp_min(1.0))


def focal_constraint(probability: Tensor, valid: Tensor, summed: bool = False) -> Tensor:
    """Return L_fv: squared violations of p rising to its maximum and falling after it.

    :param probability: (B, N, H, W), planes in order of focus.
    :param summed: divide by the number of images instead of valid pixels.
    :returns: mean over valid pixels; 0 if and only if p is unimodal everywhere.
    """
    steps = probability[:, 1:] - probability[:, :-1]
    peak = probability.argmax(dim=1, keepdim=True)
    rising = torch.arange(steps.shape[1], device=steps.device)[:, None, None] < peak
    violation = torch.where(rising, -steps, steps).clamp_min(0.0).square().sum(dim=1)
    mask = valid.to(violation.dtype)
    return (violation * mask).sum() / (len(mask) if summed else mask.sum().clamp_min(1.0))


def sigma_quantile_loss(error: Tensor, sigma: Tensor, valid: Tensor) -> Tensor:
    """Return the quantile (pinball) loss of log sigma against the log error.

    Its minimum has a share of :data:`ONE_SIGMA` of the errors below sigma. A Gaussian likelihood
    follows the few large errors at depth edges and is overconfident on textureless surfaces.

    :param error: absolute errors in plane spacings; all parameters are (B, H, W).
    :param sigma: in plane spacings.
    :returns: mean over valid pixels.
    """
    excess = torch.log(error + ERROR_FLOOR) - torch.log(sigma + ERROR_FLOOR)
    cost = torch.maximum(ONE_SIGMA * excess, (ONE_SIGMA - 1.0) * excess)
    return _masked_mean(cost, valid.to(cost.dtype))


def regression_target(
    far_to_near: Tensor, dioptres: Tensor, valid: Tensor, unit: str
) -> tuple[Tensor, Tensor]:
    """Return the target in the unit of the expectation, and the mask of usable pixels.

    :param far_to_near: (B, N) focus of the planes in dioptres, ascending.
    :param dioptres: (B, H, W) true inverse depth.
    :param valid: (B, H, W) mask of known truth.
    :returns: (B, H, W) target, 0 outside the mask, and mask.
    """
    low, high = far_to_near[:, :1, None], far_to_near[:, -1:, None]
    fraction = (dioptres - low) / (high - low)
    # Exclude truth beyond the planes: an expectation over them cannot reach it.
    inside = valid & (fraction >= 0.0) & (fraction <= 1.0)
    metres = 1.0 / dioptres.clamp_min(1.0 / MAX_METRES)
    target = metres if unit == 'metres' else fraction
    return torch.where(inside, target, 0.0), inside


def dualfocus_loss(
    prediction: Prediction,
    far_to_near: Tensor,
    dioptres: Tensor,
    valid: Tensor,
    weights: LossWeights,
    unit: str = 'dioptres',
) -> LossAndTerms:
    """Return the weighted sum of all terms, and the terms.

    :param far_to_near: (B, N) focus of the planes in dioptres, ascending, in the order of
        ``prediction.probability``.
    :param dioptres: (B, H, W) true inverse depth, known where ``valid``.
    :param unit: of the expectation: ``dioptres`` or ``metres``.
    :returns: loss, and terms; ``error`` is the mean absolute error as a share of the sweep.
    """
    position = prediction.positions
    target, inside = regression_target(far_to_near, dioptres, valid, unit)
    mask = inside.to(target.dtype)
    terms = {'depth': _masked_smooth_l1(prediction.value, target, mask, weights.beta)}
    target4, inside4 = masked_pool(target, inside, 4)
    height, width = target4.shape[-2:]
    coarse = prediction.coarse_probability[..., :height, :width]
    estimate4 = (coarse * position[..., None, None]).sum(dim=1)
    mask4 = inside4.to(target.dtype)
    terms['coarse'] = _masked_smooth_l1(estimate4, target4, mask4, weights.beta)
    terms['spatial'] = target.new_zeros(())
    if prediction.gradients is not None:
        target8, inside8 = masked_pool(target, inside, 8)
        height, width = target8.shape[-2:]
        gradients = prediction.gradients[..., :height, :width]
        terms['spatial'] = spatial_constraint(
            gradients, position, target8, inside8, weights.temperature, weights.summed
        )
    fine_focal = focal_constraint(prediction.probability, inside, weights.summed)
    terms['focal'] = fine_focal + focal_constraint(coarse, inside4, weights.summed)
    error = (prediction.value.detach() - target).abs()
    span = _span(position)
    spacing = span / (position.shape[1] - 1)
    terms['sigma'] = sigma_quantile_loss(error / spacing, prediction.value_sigma / spacing, inside)
    total = terms['depth']
    for name in ('coarse', 'spatial', 'focal', 'sigma'):
        total = total + getattr(weights, name) * terms[name]
    terms['error'] = _masked_mean(error / span, mask).detach()
    return total, terms


def dfv_loss(
    estimates: Sequence[Tensor], target: Tensor, valid: Tensor, beta: float
) -> LossAndTerms:
    """Return the weighted sum of smooth-L1 over the scales of DFV, and the terms.

    :param estimates: four (B, H, W) of normalised inverse depth, finest scale first.
    :param target: (B, H, W) normalised inverse depth, known where ``valid``.
    :returns: loss, and terms; ``error`` is the mean absolute error of the finest scale.
    """
    mask = valid.to(target.dtype)
    terms = {
        f'scale{scale}': _masked_smooth_l1(estimate.float(), target, mask, beta)
        for scale, estimate in enumerate(estimates, start=1)
    }
    total = torch.stack([w * t for w, t in zip(DFV_SCALES, terms.values(), strict=True)]).sum()
    terms['error'] = _masked_mean((estimates[0].detach().float() - target).abs(), mask)
    return total, terms
