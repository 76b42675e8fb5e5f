# SPDX-License-Identifier: Apache-2.0
"""Fits what sigma says of a network whose depth stays as it is.

The network looks at every crop once. What the head of sigma sees at some of its pixels is kept,
and the head learns from pixels of all crops at once, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import logging
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dualfocus_ros.models.decoder import SigmaHead
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.layers import upsample_bilinear
from dualfocus_ros.training.batch_sources import BatchSource
from dualfocus_ros.training.losses import regression_target, sigma_quantile_loss
from dualfocus_ros.training.model_adapters import mask_truth

logger = logging.getLogger(__name__)

# Of each crop; more of one would say the same.
PIXELS_PER_CROP = 1200
STEPS, BATCH, LEARNING_RATE = 4000, 8192, 2e-3


@dataclass(frozen=True, eq=False)
class SigmaSamples:
    """Pixels of many crops.

    :param log_spread: (P,) logarithm of the standard deviation of p, in plane spacings.
    :param inputs: (P, C) what the correction of it follows from.
    :param error: (P,) absolute error of the depth, in plane spacings.
    """

    log_spread: Tensor
    inputs: Tensor
    error: Tensor


def collect_sigma_samples(
    network: DualFocus,
    source: BatchSource,
    batches: int,
    seed: int,
    check_stop: Callable[[], None],
) -> SigmaSamples:
    """Return what the head of sigma sees at random pixels, and how wrong the depth is there.

    :param network: in evaluation mode, on the device of the batches.
    :param go_on: called before each batch; may raise.
    :raises ValueError: if its sigma is not learned, or no pixel of the batches has a truth within
        the planes.
    """
    head = _head(network)
    seen: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given))
    rng = torch.Generator().manual_seed(seed)
    found: list[tuple[Tensor, ...]] = []
    try:
        for step in _progress(batches, 'looking', 'batch'):
            check_stop()
            batch = source.batch(step)
            with torch.no_grad():
                prediction = network(batch.images, batch.focus)
                log_spread, inputs = head.inputs(*seen.pop())
                # Its pixels are half as many. The network interpolates what the head says; here
                # it is what the head sees, so that each pixel has an error of its own.
                inputs = upsample_bilinear(inputs, 2)
            truth, known = mask_truth(batch)
            target, inside = regression_target(batch.focus, truth, known, network.config.unit)
            ends = prediction.positions[:, -1] - prediction.positions[:, 0]
            spacing = ends.abs()[:, None, None] / (batch.focus.shape[1] - 1)
            error = (prediction.value - target).abs() / spacing
            for index in range(len(truth)):
                places = inside[index].nonzero()
                if len(places):
                    chosen = torch.randint(len(places), (PIXELS_PER_CROP,), generator=rng)
                    y, x = places[chosen.to(places.device)].T
                    found.append(
                        (
                            log_spread[index, 0, y, x],
                            inputs[index, :, y, x].T,
                            error[index, y, x],
                        )
                    )
    finally:
        hook.remove()
    if not found:
        raise ValueError('no pixel has a known depth within the planes: nothing to learn from')
    return SigmaSamples(*(torch.cat(part) for part in zip(*found, strict=True)))


def fit_sigma(
    network: DualFocus, samples: SigmaSamples, seed: int, check_stop: Callable[[], None]
) -> None:
    """Train the head until 68 % of the errors of alike pixels are below what it says.

    :param go_on: called before each step; may raise.
    """
    head = _head(network)
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(head.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    for _ in _progress(STEPS, 'fitting sigma', 'step'):
        check_stop()
        chosen = torch.randint(len(samples.error), (BATCH,), generator=rng)
        chosen = chosen.to(samples.error.device)
        correction = head.layers(samples.inputs[chosen].T[None, :, :, None])[0, 0, :, 0]
        sigma = torch.exp(samples.log_spread[chosen] + correction)
        loss = sigma_quantile_loss(samples.error[chosen], sigma, torch.ones_like(sigma).bool())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


def _head(network: DualFocus) -> SigmaHead:
    if network.sigma is None:
        raise ValueError('this network has no learned sigma: it is the standard deviation of p')
    return network.sigma


def _progress(count: int, what: str, unit: str) -> Iterable[int]:
    """Return 0 to count - 1, with a progress bar."""
    return tqdm(range(count), unit=unit, desc=what, disable=not logger.isEnabledFor(logging.INFO))
