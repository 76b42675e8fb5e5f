# SPDX-License-Identifier: Apache-2.0
"""Decoding of a stack from its encoded planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.network_runner import NetworkRunner
from dualfocus_ros.inference.plane_encoding import EncodedPlane
from dualfocus_ros.models.dualfocus import Prediction


@dataclass(frozen=True, eq=False)
class DecodedStack:
    """Prediction for a stack, with its planes from far to near.

    :param prediction: output of the decoder.
    :param images: N aligned planes, (3, H, W) in [0, 1].
    :param order: (N,) index of each of them in the stack.
    """

    prediction: Prediction
    images: Sequence[Tensor]
    order: np.ndarray


def decode_stack(
    stack: FocalStack, planes: Sequence[EncodedPlane], network: NetworkRunner, with_sigma: bool
) -> DecodedStack:
    """Decode encoded planes, given in the order of the stack."""
    order = np.argsort(stack.focus_dioptres, kind='stable')
    far_to_near = [planes[index] for index in order]
    height, width = planes[0].image.shape[-2:]
    prediction = network.decode(
        [plane.features for plane in far_to_near],
        stack.focus_dioptres[order],
        (height, width),
        with_sigma,
    )
    return DecodedStack(prediction, [plane.image for plane in far_to_near], order)
