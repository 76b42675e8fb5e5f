# SPDX-License-Identifier: Apache-2.0
"""Adapters of the networks to the training loop: forward pass, loss and weights file.

All networks have the same batches, the same target (inverse depth with 0 at the farthest and 1 at
the nearest plane), the same mask and the same beta of smooth-L1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualfocus_ros.models.dfv import DFV, save_dfv
from dualfocus_ros.models.dualfocus import DualFocus, Prediction
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS, DualFocusConfig
from dualfocus_ros.models.resnet import normalize_imagenet
from dualfocus_ros.models.weights import save_model
from dualfocus_ros.training.batches import MIN_POSITION, Batch
from dualfocus_ros.training.losses import (
    DFV_SCALES,
    PAPER_LOSS,
    LossAndTerms,
    LossWeights,
    dfv_loss,
    dualfocus_loss,
    regression_target,
)
from dualfocus_ros.training.stack_generator import TrainingStack
from dualfocus_ros.training.training_config import NetworkConfig

Autocast = Callable[[], AbstractContextManager[Any]]


# Position (B, H, W) in the unit of focus, its standard deviation, and probability (B, N, H, W).
Maps = tuple[Tensor, Tensor, Tensor]


class ModelAdapter(ABC):
    """Operations of the training loop that depend on the network."""

    # Divisor of the sides of training crops, and smallest number of stacks per batch.
    stride: ClassVar[int] = 1
    min_batch_size: ClassVar[int] = 1

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network with random weights."""

    @abstractmethod
    def for_finetuning(self, network: DualFocus) -> ModelAdapter:
        """Return this adapter, adjusted to initial weights; ValueError if they do not fit."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        """Return the loss in float32 and its terms for the log, with ``error`` among them."""

    @abstractmethod
    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> Maps:
        """Estimate from images (B, N, 3, H, W) in [0, 1] and ascending focus (B, N)."""

    def scale_sigma(self, network: nn.Module, factor: float) -> bool:
        """Multiply later predictions of sigma; return False if the network cannot."""
        return False

    @abstractmethod
    def save(self, path: Path, network: nn.Module) -> str:
        """Write a weights file with the configuration; return the SHA-256."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return network, configuration and loss, for the checkpoint."""


def mask_truth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the truth with 0 in place of NaN, and the mask of known truth."""
    known = torch.isfinite(batch.truth)
    return torch.where(known, batch.truth, 0.0), known


@dataclass(frozen=True)
class DualFocusAdapter(ModelAdapter):
    """Adapter of DualFocus."""

    config: DualFocusConfig
    weights: LossWeights

    def build(self) -> DualFocus:
        return DualFocus(self.config)

    def for_finetuning(self, network: DualFocus) -> DualFocusAdapter:
        """Take over the smoothing of the network; require all other fields to be equal."""
        config = replace(self.config, smoothing=network.config.smoothing)
        mine, other = asdict(config), asdict(network.config)
        differing = [name for name in mine if mine[name] != other[name]]
        if differing:
            raise ValueError(
                f'the initial weights have another configuration ({", ".join(differing)} '
                'differ): train the network and ablations that they belong to'
            )
        return replace(self, config=config)

    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        with autocast():
            prediction = network(batch.images, batch.focus)
        values: dict[str, Any] = {
            n: v if v is None else v.float() for n, v in vars(prediction).items()
        }
        truth, known = mask_truth(batch)
        return dualfocus_loss(
            Prediction(**values), batch.focus, truth, known, self.weights, self.config.unit
        )

    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> Maps:
        # Networks in metres need positive dioptres; others are invariant to the shift.
        shift = 0.5 - focus[:, :1].clamp_max(MIN_POSITION)
        prediction = network(images, focus + shift)
        position = prediction.dioptres - shift[..., None]
        return position, prediction.sigma, prediction.probability

    def scale_sigma(self, network: nn.Module, factor: float) -> bool:
        assert isinstance(network, DualFocus)
        if network.sigma is not None:
            network.sigma.scale(factor)
        return network.sigma is not None

    def save(self, path: Path, network: nn.Module) -> str:
        assert isinstance(network, DualFocus)
        return save_model(path, network)

    def describe(self) -> dict[str, Any]:
        config, loss = asdict(self.config), asdict(self.weights)
        return {'network': 'DualFocus', 'config': config, 'loss': loss}


@dataclass(frozen=True)
class DFVAdapter(ModelAdapter):
    """Adapter of DFV, the baseline; planes from far to near."""

    beta: float
    stride: ClassVar[int] = 32
    # Its pooling leaves one value per stack, and batch normalisation needs several.
    min_batch_size: ClassVar[int] = 2

    def build(self) -> DFV:
        return DFV()

    def for_finetuning(self, network: DualFocus) -> ModelAdapter:
        raise ValueError('DFV cannot start from weights of DualFocus: train it from random ones')

    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        low = batch.focus[:, :1]
        span = batch.focus[:, -1:] - low
        with autocast():
            estimates = network(normalize_imagenet(batch.images), (batch.focus - low) / span)
        target, inside = regression_target(batch.focus, *mask_truth(batch), 'dioptres')
        return dfv_loss(estimates, target, inside, self.beta)

    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> Maps:
        """Estimate positions at the finest scale; sigma is the standard deviation of p."""
        assert isinstance(network, DFV)
        height, width = images.shape[-2:]
        border = (0, -width % self.stride, 0, -height % self.stride, 0, 0)
        padded = functional.pad(normalize_imagenet(images), border, mode='replicate')
        p = network.probabilities(padded)[0][..., :height, :width]
        planes = focus[..., None, None]
        position = (p * planes).sum(dim=1)
        sigma = (p * (planes - position[:, None]).square()).sum(dim=1).sqrt()
        return position, sigma, p

    def save(self, path: Path, network: nn.Module) -> str:
        assert isinstance(network, DFV)
        save_dfv(path, network)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {'network': 'DFV', 'loss': {'beta': self.beta, 'scales': list(DFV_SCALES)}}


def predict_stack(
    adapter: ModelAdapter, network: nn.Module, stack: TrainingStack, planes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimate positions from at most ``planes`` evenly spaced planes of a stack.

    :param network: in evaluation mode, on the device of the stack.
    :returns: indices of the planes, position (H, W), sigma (H, W) and probability (N, H, W).
    """
    available = len(stack.focus)
    chosen = np.linspace(0, available - 1, min(planes, available)).round().astype(int)
    device = stack.images.device
    images = stack.images[torch.as_tensor(chosen, device=device)].float() / 255.0
    focus = torch.from_numpy(stack.focus[chosen]).to(device)
    with torch.inference_mode():
        maps = adapter.predict(network, images[None], focus[None])
    position, sigma, probability = (values[0].float().cpu().numpy() for values in maps)
    return chosen, position, sigma, probability


def make_adapter(
    config: NetworkConfig, configurations: Mapping[str, DualFocusConfig] = CONFIGURATIONS
) -> ModelAdapter:
    """Return the adapter of a network and loss.

    :param configurations: DualFocus configurations by name.
    :raises ValueError: for an unknown name, or ablations of DFV.
    """
    weights = PAPER_LOSS if config.paper_loss else LossWeights()
    if config.beta is not None:
        weights = replace(weights, beta=config.beta)
    if config.name == 'dfv':
        if config.ablate or config.paper_loss:
            parts = [*config.ablate, *(['paper loss'] if config.paper_loss else [])]
            raise ValueError(f'DFV has no {", ".join(parts)}: train it without ablations')
        return DFVAdapter(weights.beta)
    if config.name not in configurations:
        known = ', '.join([*configurations, 'dfv'])
        raise ValueError(f"unknown configuration '{config.name}': give one of {known}")
    network = configurations[config.name]
    if 'projection' in config.ablate:
        network = replace(network, surfaces=0)
    # The spatial constraint applies to the surfaces of the projection.
    if 'spatial' in config.ablate or 'projection' in config.ablate:
        weights = replace(weights, spatial=0.0)
    if 'focal' in config.ablate:
        weights = replace(weights, focal=0.0)
    return DualFocusAdapter(network, weights)
