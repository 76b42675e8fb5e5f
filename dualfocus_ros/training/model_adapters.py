# SPDX-License-Identifier: Apache-2.0
"""What differs between the networks that the one training loop trains: forward pass and loss.

Both see the same batches, the same target (inverse depth with 0 at the farthest and 1 at the
nearest plane), the same mask and the same beta of smooth-L1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
import hashlib
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualfocus_ros.models.dfv import DFV, save_dfv
from dualfocus_ros.models.dualfocus import DualFocus, Prediction
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS, DualFocusConfig
from dualfocus_ros.models.resnet import normalize_imagenet
from dualfocus_ros.models.weights import save_model
from dualfocus_ros.training.batches import MIN_POSITION, Batch
from dualfocus_ros.training.losses import PAPER_LOSS, LossWeights, total_loss

DFV_NAME = 'dfv'
ABLATIONS = ('spatial', 'focal', 'projection')
# Weights of DFV's four scales, finest first.
DFV_SCALES = (8 / 15, 4 / 15, 2 / 15, 1 / 15)

Autocast = Callable[[], AbstractContextManager[Any]]
LossAndTerms = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class PositionEstimate:
    """What a trained network says of stacks, in the unit of focus.

    :param position: (B, H, W); sigma its standard deviation (B, H, W).
    :param probability: (B, N, H, W), in the order of the planes.
    """

    position: Tensor
    sigma: Tensor
    probability: Tensor


class ModelAdapter(Protocol):
    """A kind of network."""

    @property
    def stride(self) -> int:
        """Sides of training crops must be multiples of it."""

    @property
    def min_batch_size(self) -> int:
        """Number of stacks that a batch needs at least."""

    def build(self) -> nn.Module:
        """Return the network with random weights."""

    def for_finetuning(self, network: DualFocus) -> ModelAdapter:
        """Return this kind for training that begins with the weights of a DualFocus network.

        :raises ValueError: if it is a network of another kind.
        """

    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        """Return the loss, and terms of it for the log, among them ``error``."""

    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> PositionEstimate:
        """Estimate, with a network in evaluation mode and ascending focus."""

    def scale_sigma(self, network: nn.Module, factor: float) -> bool:
        """Multiply the predicted sigma from now on; False if this kind cannot."""

    def save(self, path: Path, network: nn.Module) -> str:
        """Write weights as the other commands load them; return the SHA-256."""

    def describe(self) -> dict[str, Any]:
        """Return everything that training depends on, for the checkpoint."""


def mask_truth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the truth without NaN, and where it is known."""
    known = torch.isfinite(batch.truth)
    return torch.where(known, batch.truth, torch.zeros_like(batch.truth)), known


@dataclass(frozen=True)
class DualFocusAdapter:
    """DualFocus in any configuration, with any weights of its losses."""

    config: DualFocusConfig
    weights: LossWeights
    stride: int = 1
    min_batch_size: int = 1

    def build(self) -> DualFocus:
        """Return the network with random weights."""
        return DualFocus(self.config)

    def for_finetuning(self, network: DualFocus) -> DualFocusAdapter:
        """Smooth images as the network does; all else of the configurations must be equal."""
        config = replace(self.config, smoothing=network.config.smoothing)
        mine, other = asdict(config), asdict(network.config)
        differing = [name for name in mine if mine[name] != other[name]]
        if differing:
            raise ValueError(
                f'the weights to start from are of another configuration ({", ".join(differing)} '
                'differ): give the --config and --without that they were trained with'
            )
        return replace(self, config=config)

    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        """Return :func:`total_loss`, computed in float32."""
        with autocast():
            prediction = network(batch.images, batch.focus)
        exact = Prediction(**{f.name: _float(getattr(prediction, f.name)) for f in _FIELDS})
        truth, known = mask_truth(batch)
        return total_loss(exact, batch.focus, truth, known, self.weights, self.config.unit)

    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> PositionEstimate:
        """Estimate depth, its standard deviation and the focus probability."""
        # A network that works in metres needs positive dioptres, others do not care.
        shift = 0.5 - focus[:, :1].clamp_max(MIN_POSITION)
        prediction = network(images, focus + shift)
        position = prediction.dioptres - shift[..., None]
        return PositionEstimate(position, prediction.sigma, prediction.probability)

    def scale_sigma(self, network: nn.Module, factor: float) -> bool:
        """Scale what the head of sigma says, where there is one."""
        assert isinstance(network, DualFocus)
        if network.sigma is None:
            return False
        network.sigma.scale(factor)
        return True

    def save(self, path: Path, network: nn.Module) -> str:
        """Write half-precision weights with their configuration."""
        assert isinstance(network, DualFocus)
        return save_model(path, network)

    def describe(self) -> dict[str, Any]:
        """Return configuration and weights of the losses."""
        loss = asdict(self.weights)
        return {'network': 'DualFocus', 'config': asdict(self.config), 'loss': loss}


_FIELDS = fields(Prediction)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class DFVAdapter:
    """DFV, the baseline: smooth-L1 at four scales, planes from far to near."""

    beta: float
    stride: int = 32
    # Its pooling leaves one value per stack, of which batch norm needs several.
    min_batch_size: int = 2

    def build(self) -> DFV:
        """Return the network with random weights."""
        return DFV()

    def for_finetuning(self, network: DualFocus) -> ModelAdapter:
        """Refuse."""
        raise ValueError('--from takes weights of DualFocus, and this is DFV')

    def loss(self, network: nn.Module, batch: Batch, autocast: Autocast) -> LossAndTerms:
        """Return the weighted smooth-L1 of the scales, each at full resolution."""
        low = batch.focus[:, :1]
        span = batch.focus[:, -1:] - low
        with autocast():
            estimates = network(normalize_imagenet(batch.images), (batch.focus - low) / span)
        truth, known = mask_truth(batch)
        target = (truth - low[..., None]) / span[..., None]
        # An expectation over the planes cannot leave their range.
        mask = (known & (target >= 0.0) & (target <= 1.0)).to(target.dtype)
        count = mask.sum().clamp_min(1.0)
        terms = {}
        for index, estimate in enumerate(estimates):
            error = functional.smooth_l1_loss(
                estimate.float(), target, beta=self.beta, reduction='none'
            )
            terms[f'scale{index + 1}'] = (error * mask).sum() / count
        total = torch.stack([w * t for w, t in zip(DFV_SCALES, terms.values(), strict=True)]).sum()
        finest = (estimates[0].detach().float() - target).abs()
        terms['error'] = (finest * mask).sum() / count
        return total, terms

    def predict(self, network: nn.Module, images: Tensor, focus: Tensor) -> PositionEstimate:
        """Estimate at the finest scale; sigma is the standard deviation of p."""
        assert isinstance(network, DFV)
        height, width = images.shape[-2:]
        frame = (0, -width % self.stride, 0, -height % self.stride, 0, 0)
        padded = functional.pad(normalize_imagenet(images), frame, mode='replicate')
        p = network.probabilities(padded)[0][..., :height, :width]
        planes = focus[..., None, None]
        position = (p * planes).sum(dim=1)
        sigma = (p * (planes - position[:, None]).square()).sum(dim=1).sqrt()
        return PositionEstimate(position, sigma, p)

    def scale_sigma(self, network: nn.Module, factor: float) -> bool:
        """Do nothing: DFV has no parameter for it."""
        return False

    def save(self, path: Path, network: nn.Module) -> str:
        """Write weights in the form that ``dfv:PATH`` takes in ``dualfocus evaluate``."""
        assert isinstance(network, DFV)
        save_dfv(path, network)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return beta and the weights of the scales."""
        return {'network': 'DFV', 'loss': {'beta': self.beta, 'scales': list(DFV_SCALES)}}


def make_adapter(
    name: str,
    without: tuple[str, ...] = (),
    literal: bool = False,
    configurations: Mapping[str, DualFocusConfig] = CONFIGURATIONS,
    beta: float | None = None,
) -> ModelAdapter:
    """Return the kind of network of a configuration's name, with parts taken out.

    :param name: ``dfv`` or one of ``configurations``.
    :param without: some of :data:`ABLATIONS`.
    :param literal: the loss as it is printed in the publication.
    :param beta: of smooth-L1, instead of the usual one.
    :raises ValueError: for an unknown name, or parts that DFV does not have.
    """
    weights = PAPER_LOSS if literal else LossWeights()
    if beta is not None:
        weights = replace(weights, beta=beta)
    if name == DFV_NAME:
        if without or literal:
            parts = [*without, *(['literal loss'] if literal else [])]
            raise ValueError(f'DFV has no {", ".join(parts)}')
        return DFVAdapter(weights.beta)
    if name not in configurations:
        known = ', '.join([*configurations, DFV_NAME])
        raise ValueError(f"unknown configuration '{name}': give one of {known}")
    config = configurations[name]
    if 'projection' in without:
        config = replace(config, surfaces=0)
    # Without surfaces there is nothing that the spatial constraint could hold for.
    if 'spatial' in without or 'projection' in without:
        weights = replace(weights, spatial=0.0)
    if 'focal' in without:
        weights = replace(weights, focal=0.0)
    return DualFocusAdapter(config, weights)
