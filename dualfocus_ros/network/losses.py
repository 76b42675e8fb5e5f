# SPDX-License-Identifier: Apache-2.0
"""Training losses: regression, the spatial and the focal variational constraint, likelihood.

All are in normalised inverse depth (0 at the farthest plane, 1 at the nearest), so that lenses
and sweeps of every range weigh the same. Equations: DualFocus sections 3.2 to 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as functional

from dualfocus_ros.network.model import Prediction
from dualfocus_ros.network.projection import forward_differences


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. ``beta`` is that of smooth-L1, in normalised inverse depth.

    :param spatial: lambda_sv of L = L_depth + lambda_sv L_sv + lambda_fv L_fv.
    :param focal: lambda_fv.
    :param coarse: weight of the regression from the 1/4-resolution probability.
    :param likelihood: weight of the term that calibrates sigma (it does not move the depth).
    """

    beta: float = 0.03
    spatial: float = 0.3
    focal: float = 2.0
    coarse: float = 0.3
    likelihood: float = 0.02


def sharpness_weights(
    position: Tensor, target: Tensor, temperature: float | None = None
) -> Tensor:
    """Return q_n = softmax_n(-|f_n - D*| / tau), how sharp each plane is at each pixel.

    The printed formula has no temperature and is nearly uniform for the published focus lists;
    the default tau is half the mean plane spacing. ``temperature=1`` gives the printed one.

    :param position: (B, N) planes, target (B, h, w), both in the same unit.
    :returns: (B, N, h, w), no gradient.
    """
    if temperature is None:
        temperature = 0.5 / (position.shape[1] - 1)
    distance = (position[:, :, None, None] - target[:, None]).abs()
    return torch.softmax(-distance / temperature, dim=1).detach()


def masked_pool(target: Tensor, valid: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Average valid values over cells of factor x factor pixels.

    :returns: (B, h, w) means and a mask of the cells of which at least half is valid.
    """
    weight = valid.to(target.dtype)
    total = functional.avg_pool2d((target * weight)[:, None], factor)[:, 0]
    share = functional.avg_pool2d(weight[:, None], factor)[:, 0]
    return total / share.clamp_min(1e-6), share >= 0.5


def spatial_constraint(
    gradients: Tensor, position: Tensor, target: Tensor, valid: Tensor
) -> Tensor:
    """L_sv = sum q_n |grad D* - theta_grad(z*_n)|_1 / sum q_n over valid cells.

    :param gradients: (B, N, 2, h, w) theta_grad(z*_n), planes in the order of ``position``.
    :param target: (B, h, w) normalised inverse depth at that resolution, ``valid`` its mask.
    """
    dx, dy = forward_differences(target)
    mask_x = torch.zeros_like(valid)
    mask_y = torch.zeros_like(valid)
    mask_x[..., :, :-1] = valid[..., :, 1:] & valid[..., :, :-1]
    mask_y[..., :-1, :] = valid[..., 1:, :] & valid[..., :-1, :]
    weights = sharpness_weights(position, target)
    truth = torch.stack([dx, dy], dim=1)[:, None]
    mask = torch.stack([mask_x, mask_y], dim=1)[:, None].to(gradients.dtype)
    weights = weights[:, :, None] * mask
    return (weights * (truth - gradients).abs()).sum() / weights.sum().clamp_min(1.0)


def focal_constraint(probability: Tensor, valid: Tensor) -> Tensor:
    """L_fv: squared violations of p rising to its maximum and falling after it.

    :param probability: (B, N, H, W), planes in order of focus.
    :returns: mean over valid pixels; 0 exactly when p is unimodal everywhere.
    """
    steps = probability[:, 1:] - probability[:, :-1]
    peak = probability.argmax(dim=1, keepdim=True)
    index = torch.arange(steps.shape[1], device=steps.device)[None, :, None, None]
    rising = index < peak
    violation = torch.where(rising, -steps, steps).clamp_min(0.0).square().sum(dim=1)
    mask = valid.to(violation.dtype)
    return (violation * mask).sum() / mask.sum().clamp_min(1.0)


def total_loss(
    prediction: Prediction,
    far_to_near: Tensor,
    dioptres: Tensor,
    valid: Tensor,
    weights: LossWeights,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum and its terms.

    :param far_to_near: (B, N) focus of the planes in dioptres, ascending; the prediction's
        probability must be in that order.
    :param dioptres: (B, H, W) true inverse depth, ``valid`` (B, H, W) where it is known.
    """
    low, high = far_to_near[:, :1, None], far_to_near[:, -1:, None]
    span = high - low
    position = (far_to_near - low[..., 0]) / span[..., 0]
    target = (dioptres - low) / span
    # An expectation over the planes cannot leave their range.
    inside = valid & (target >= 0.0) & (target <= 1.0)
    mask = inside.to(target.dtype)
    count = mask.sum().clamp_min(1.0)

    def regression(estimate: Tensor, truth: Tensor, where: Tensor) -> Tensor:
        error = functional.smooth_l1_loss(estimate, truth, beta=weights.beta, reduction='none')
        return (error * where).sum() / where.sum().clamp_min(1.0)

    terms = {'depth': regression(prediction.normalised, target, mask)}
    target4, inside4 = masked_pool(target, inside, 4)
    height, width = target4.shape[-2:]
    coarse = prediction.coarse_probability[..., :height, :width]
    estimate4 = (coarse * position[..., None, None]).sum(dim=1)
    terms['coarse'] = regression(estimate4, target4, inside4.to(target.dtype))
    target8, inside8 = masked_pool(target, inside, 8)
    height, width = target8.shape[-2:]
    gradients = prediction.gradients[..., :height, :width]
    terms['spatial'] = spatial_constraint(gradients, position, target8, inside8)
    terms['focal'] = focal_constraint(prediction.probability, inside) + focal_constraint(
        coarse, inside4
    )
    # Gaussian negative log likelihood with outliers capped at three sigma's worth of slope.
    error = (prediction.normalised.detach() - target).abs()
    sigma = prediction.normalised_sigma
    ratio = error / sigma
    penalty = torch.where(ratio < 3.0, 0.5 * ratio.square(), 3.0 * ratio - 4.5)
    terms['likelihood'] = ((penalty + sigma.log()) * mask).sum() / count
    total = (
        terms['depth']
        + weights.coarse * terms['coarse']
        + weights.spatial * terms['spatial']
        + weights.focal * terms['focal']
        + weights.likelihood * terms['likelihood']
    )
    terms['error'] = ((error * mask).sum() / count).detach()
    return total, terms
