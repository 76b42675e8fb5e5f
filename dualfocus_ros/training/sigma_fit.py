# SPDX-License-Identifier: Apache-2.0
"""Fit of the sigma head of a trained network; its depth stays unchanged.

The network runs once on each crop; the sigma head is trained on stored inputs at random pixels.
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
from dualfocus_ros.training.batches import BatchSource
from dualfocus_ros.training.losses import regression_target, sigma_quantile_loss
from dualfocus_ros.training.model_adapters import mask_truth

logger = logging.getLogger(__name__)

# Pixels per crop; more would be redundant.
PIXELS_PER_CROP = 1200
STEPS, BATCH, LEARNING_RATE = 4000, 8192, 2e-3


@dataclass(frozen=True, eq=False)
class SigmaSamples:
    """Training samples of the sigma head: pixels of many crops.

    :param log_spread: (P,) logarithm of the standard deviation of p, in plane spacings.
    :param inputs: (P, C) inputs of the correction of ``log_spread``.
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
    """Return inputs of the sigma head and depth errors at random pixels.

    :param network: in evaluation mode, on the device of the batches.
    :param check_stop: called before each batch; may raise.
    :raises ValueError: for a network without learned sigma, or no truth within the planes.
    """
    head = _head(network)
    captured: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs))
    rng = torch.Generator().manual_seed(seed)
    samples: list[tuple[Tensor, ...]] = []
    try:
        for step in _progress(batches, 'collecting', 'batch'):
            check_stop()
            batch = source.batch(step)
            with torch.no_grad():
                prediction = network(batch.images, batch.focus)
                log_spread, inputs = head.inputs(*captured.pop())
                # The head runs at half size. The network upsamples its output; upsample its input
                # here, so that each pixel is a sample with one error.
                inputs = upsample_bilinear(inputs, 2)
            truth, known = mask_truth(batch)
            target, inside = regression_target(batch.focus, truth, known, network.config.unit)
            ends = prediction.positions[:, -1] - prediction.positions[:, 0]
            spacing = ends.abs()[:, None, None] / (batch.focus.shape[1] - 1)
            error = (prediction.value - target).abs() / spacing
            for index, places in enumerate(mask.nonzero() for mask in inside):
                if len(places):
                    chosen = torch.randint(len(places), (PIXELS_PER_CROP,), generator=rng)
                    y, x = places[chosen.to(places.device)].T
                    spread = log_spread[index, 0, y, x]
                    samples.append((spread, inputs[index, :, y, x].T, error[index, y, x]))
    finally:
        hook.remove()
    if not samples:
        raise ValueError('no pixel has a known depth within the planes: give other data')
    return SigmaSamples(*(torch.cat(values) for values in zip(*samples, strict=True)))


def fit_sigma(
    network: DualFocus, samples: SigmaSamples, seed: int, check_stop: Callable[[], None]
) -> None:
    """Train the sigma head by :func:`sigma_quantile_loss`.

    :param check_stop: called before each step; may raise.
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
        raise ValueError('the network has no learned sigma to fit: its configuration has none')
    return network.sigma


def _progress(count: int, what: str, unit: str) -> Iterable[int]:
    """Return range(count) with a progress bar."""
    return tqdm(range(count), unit=unit, desc=what, disable=not logger.isEnabledFor(logging.INFO))
