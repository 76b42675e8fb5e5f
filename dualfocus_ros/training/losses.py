# SPDX-License-Identifier: Apache-2.0
"""Training losses: regression, the spatial and the focal variational constraint, sigma.

All are in the unit of the network's expectation: by default normalised inverse depth (0 at the
farthest plane, 1 at the nearest), so that lenses and sweeps of every range weigh the same.
Equations: DualFocus sections 3.2 to 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.models.dualfocus import MAX_METRES, Prediction
from dualfocus_ros.models.projection import forward_differences

# Share of a normal distribution within one standard deviation.
ONE_SIGMA = 0.6827
# In plane spacings: errors below it count as none.
ERROR_FLOOR = 2e-3


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. ``beta`` is that of smooth-L1, in the unit of the expectation.

    :param spatial: lambda_sv of L = L_depth + lambda_sv L_sv + lambda_fv L_fv.
    :param focal: lambda_fv.
    :param coarse: weight of the regression from the 1/4-resolution probability.
    :param sigma: weight of :func:`sigma_quantile_loss` (it does not move the depth).
    :param temperature: tau of the sharpness weights q, in the unit of the expectation; None is
        half the mean plane spacing, 1 the printed formula.
    :param summed: L_sv and L_fv as sums over the pixels of an image, as printed, rather than
        means; the weights then depend on the size of the images.
    """

    beta: float = 0.03
    spatial: float = 0.3
    focal: float = 10.0
    coarse: float = 0.3
    sigma: float = 0.02
    temperature: float | None = None
    summed: bool = False


# The published loss to the letter: L = SmoothL1 + lambda_sv L_sv + lambda_fv L_fv with beta 1, q
# without temperature, sums. The lambdas are not printed; these give terms of comparable size.
PAPER_LOSS = LossWeights(
    beta=1.0, spatial=1e-4, focal=1e-4, coarse=0.0, sigma=0.0, temperature=1.0, summed=True
)


def sharpness_weights(
    position: Tensor, target: Tensor, temperature: float | None = None
) -> Tensor:
    """Return q_n = softmax_n(-|f_n - D*| / tau), how sharp each plane is at each pixel.

    The printed formula has no temperature and is nearly uniform for the published focus lists;
    the default tau is half the mean plane spacing. ``temperature=1`` gives the printed one.

    :param position: (B, N) planes, target (B, h, w), both in the same unit.
    :returns: (B, N, h, w), no gradient.
    """
    scale: float | Tensor
    if temperature is None:
        span = (position[:, -1] - position[:, 0]).abs()
        scale = (0.5 * span / (position.shape[1] - 1))[:, None, None, None]
    else:
        scale = temperature
    distance = (position[:, :, None, None] - target[:, None]).abs()
    return torch.softmax(-distance / scale, dim=1).detach()


def masked_pool(target: Tensor, valid: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Average valid values over cells of factor x factor pixels.

    :returns: (B, h, w) means and a mask of the cells of which at least half is valid.
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
    """L_sv = sum q_n |grad D* - theta_grad(z*_n)|_1 / sum q_n over valid cells.

    :param gradients: (B, N, 2, h, w) theta_grad(z*_n), planes in the order of ``position``.
    :param target: (B, h, w) value at that resolution, ``valid`` its mask.
    :param temperature: of q, see :func:`sharpness_weights`.
    :param summed: do not divide by sum q_n but by the number of images.
    """
    dx, dy = forward_differences(target)
    mask_x = torch.zeros_like(valid)
    mask_y = torch.zeros_like(valid)
    mask_x[..., :, :-1] = valid[..., :, 1:] & valid[..., :, :-1]
    mask_y[..., :-1, :] = valid[..., 1:, :] & valid[..., :-1, :]
    weights = sharpness_weights(position, target, temperature)
    truth = torch.stack([dx, dy], dim=1)[:, None]
    mask = torch.stack([mask_x, mask_y], dim=1)[:, None].to(gradients.dtype)
    weights = weights[:, :, None] * mask
    total = (weights * (truth - gradients).abs()).sum()
    return total / (len(target) if summed else weights.sum().clamp_min(1.0))


def focal_constraint(probability: Tensor, valid: Tensor, summed: bool = False) -> Tensor:
    """L_fv: squared violations of p rising to its maximum and falling after it.

    :param probability: (B, N, H, W), planes in order of focus.
    :param summed: the sum over the pixels of an image rather than their mean.
    :returns: mean over valid pixels; 0 exactly when p is unimodal everywhere.
    """
    steps = probability[:, 1:] - probability[:, :-1]
    peak = probability.argmax(dim=1, keepdim=True)
    index = torch.arange(steps.shape[1], device=steps.device)[None, :, None, None]
    rising = index < peak
    violation = torch.where(rising, -steps, steps).clamp_min(0.0).square().sum(dim=1)
    mask = valid.to(violation.dtype)
    return (violation * mask).sum() / (len(mask) if summed else mask.sum().clamp_min(1.0))


def sigma_quantile_loss(error: Tensor, sigma: Tensor, valid: Tensor) -> Tensor:
    """Return how far sigma is from the error that 68 % of alike pixels stay below.

    The quantile loss of the logarithms: it is least where a share of :data:`ONE_SIGMA` of the
    errors of all pixels that look alike lies below sigma. The likelihood of a normal law follows
    the few large errors at depth edges and promises too much on textureless surfaces.

    :param error: (B, H, W) absolute errors; ``sigma`` (B, H, W); both in plane spacings.
    :returns: mean over valid pixels.
    """
    excess = torch.log(error + ERROR_FLOOR) - torch.log(sigma + ERROR_FLOOR)
    cost = torch.maximum(ONE_SIGMA * excess, (ONE_SIGMA - 1.0) * excess)
    mask = valid.to(cost.dtype)
    return (cost * mask).sum() / mask.sum().clamp_min(1.0)


def regression_target(
    far_to_near: Tensor, dioptres: Tensor, valid: Tensor, unit: str
) -> tuple[Tensor, Tensor]:
    """Return the true value in the unit of the network's expectation, and where it can be learned.

    :param far_to_near: (B, N) focus of the planes in dioptres, ascending.
    :param dioptres: (B, H, W) true inverse depth, ``valid`` (B, H, W) where it is known.
    :returns: (B, H, W) target, 0 where it has no use, and mask.
    """
    low, high = far_to_near[:, :1, None], far_to_near[:, -1:, None]
    fraction = (dioptres - low) / (high - low)
    # An expectation over the planes cannot leave their range.
    inside = valid & (fraction >= 0.0) & (fraction <= 1.0)
    target = fraction
    if unit == 'metres':
        target = 1.0 / dioptres.clamp_min(1.0 / MAX_METRES)
    return torch.where(inside, target, 0.0), inside


def total_loss(
    prediction: Prediction,
    far_to_near: Tensor,
    dioptres: Tensor,
    valid: Tensor,
    weights: LossWeights,
    unit: str = 'dioptres',
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum and its terms.

    :param far_to_near: (B, N) focus of the planes in dioptres, ascending; the prediction's
        probability must be in that order.
    :param dioptres: (B, H, W) true inverse depth, ``valid`` (B, H, W) where it is known.
    :param unit: of the network's expectation: ``dioptres`` or ``metres``.
    """
    position = prediction.positions
    target, inside = regression_target(far_to_near, dioptres, valid, unit)
    mask = inside.to(target.dtype)
    count = mask.sum().clamp_min(1.0)

    def regression(estimate: Tensor, truth: Tensor, where: Tensor) -> Tensor:
        error = functional.smooth_l1_loss(estimate, truth, beta=weights.beta, reduction='none')
        return (error * where).sum() / where.sum().clamp_min(1.0)

    terms = {'depth': regression(prediction.value, target, mask)}
    target4, inside4 = masked_pool(target, inside, 4)
    height, width = target4.shape[-2:]
    coarse = prediction.coarse_probability[..., :height, :width]
    estimate4 = (coarse * position[..., None, None]).sum(dim=1)
    terms['coarse'] = regression(estimate4, target4, inside4.to(target.dtype))
    if prediction.gradients is not None:
        target8, inside8 = masked_pool(target, inside, 8)
        height, width = target8.shape[-2:]
        gradients = prediction.gradients[..., :height, :width]
        terms['spatial'] = spatial_constraint(
            gradients, position, target8, inside8, weights.temperature, weights.summed
        )
    else:
        terms['spatial'] = target.new_zeros(())
    terms['focal'] = focal_constraint(prediction.probability, inside, weights.summed)
    terms['focal'] = terms['focal'] + focal_constraint(coarse, inside4, weights.summed)
    error = (prediction.value.detach() - target).abs()
    span = (position[:, -1] - position[:, 0]).abs()[:, None, None]
    spacing = span / (position.shape[1] - 1)
    terms['sigma'] = sigma_quantile_loss(error / spacing, prediction.value_sigma / spacing, inside)
    total = (
        terms['depth']
        + weights.coarse * terms['coarse']
        + weights.spatial * terms['spatial']
        + weights.focal * terms['focal']
        + weights.sigma * terms['sigma']
    )
    terms['error'] = ((error / span * mask).sum() / count).detach()
    return total, terms
