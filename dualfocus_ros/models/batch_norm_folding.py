# SPDX-License-Identifier: Apache-2.0
"""Fold batch normalisation into convolutions, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.layers import FocalBlock, FocalConv, FullFocalBlock


def fold_batch_norm(network: DualFocus) -> DualFocus:
    """Return a copy without batch normalisation, equal up to rounding.

    :raises ValueError: if the network is in training mode.
    """
    if network.training:
        raise ValueError(
            'network is in training mode, expected evaluation mode: call eval() first'
        )
    folded = copy.deepcopy(network)
    for module in folded.modules():
        for name, child in module.named_children():
            if (
                isinstance(child, nn.Sequential)
                and len(child) == 2
                and isinstance(child[0], nn.Conv2d)
                and isinstance(child[1], nn.BatchNorm2d)
            ):
                setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
    for module in folded.modules():
        if isinstance(module, FocalBlock):
            module.norm = _fold_into_focal_conv(module.focal, module.norm, module.context)
        elif isinstance(module, FullFocalBlock):
            module.first_norm = _fold_into_focal_conv(module.first, module.first_norm)
            module.second_norm = _fold_into_focal_conv(module.second, module.second_norm)
    return folded


def _fold_into_focal_conv(
    focal: FocalConv, norm: nn.BatchNorm2d, context: nn.Conv2d | None = None
) -> nn.BatchNorm2d:
    """Scale the three taps and the context; return a module in place of the norm.

    The shift goes to the middle tap, which contributes to every plane.
    """
    taps = focal.taps
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    with torch.no_grad():
        taps.weight.mul_(scale.repeat(3)[:, None, None, None])
        if context is not None:
            context.weight.mul_(scale[:, None, None, None])
    zero = torch.zeros_like(shift)
    taps.bias = nn.Parameter(torch.cat([zero, shift, zero]).detach())
    return nn.Identity()  # type: ignore[return-value]
