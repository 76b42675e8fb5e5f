# SPDX-License-Identifier: Apache-2.0
"""The methods that are compared, behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
import typing

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.classical import FOCUS_MEASURES, classical_inverse_depth
from dualfocus_ros.evaluation.protocols import Protocol, ProtocolB, make_case
from dualfocus_ros.evaluation.single_image import SingleImageRegression
from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from dualfocus_ros.models.dfv import load_dfv
from dualfocus_ros.models.resnet import normalize_imagenet
from dualfocus_ros.models.weights import load_model, shipped_models

logger = logging.getLogger(__name__)

RANGE_ONLY = 'range-only'
SINGLE_IMAGE = 'single-image'
# Seeds that no default of a command evaluates on.
SINGLE_IMAGE_VIEWS = ('shapes:977,count=24', 'indoor:977,count=12')


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method says about a case, as positions.

    :param position: (H, W) float32; NaN where the method has no estimate.
    :param sigma: (H, W) one standard deviation, None if the method has none.
    :param probability: (N, H, W) in the order of the case's planes, None if there is none.
    """

    position: np.ndarray
    sigma: np.ndarray | None = None
    probability: np.ndarray | None = None


class Method(typing.Protocol):
    """A way to turn a stack into positions."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def about(self) -> str:
        """Where it comes from: hash of the weights, or what it computes."""

    def estimate(self, case: Case) -> Estimate:
        """Estimate the position of every pixel."""


def open_methods(
    names: Sequence[str], device: torch.device, protocol: Protocol | None = None
) -> list[Method]:
    """Return the methods of these names; none of them: all shipped models and the controls.

    :param names: shipped models, paths of ``.safetensors`` files, ``sml``, ``rdf``,
        ``dfv:PATH``, ``range-only``, ``single-image`` or ``single-image:KIND:PLACE``.
    :param protocol: what the views are rendered by that ``single-image`` is fitted on.
    :raises ValueError: for an unknown name or weights that cannot be used.
    """
    chosen = list(names) or [*shipped_models(), *FOCUS_MEASURES, RANGE_ONLY]
    return [_open_method(name, device, protocol or ProtocolB()) for name in dict.fromkeys(chosen)]


def _open_method(name: str, device: torch.device, protocol: Protocol) -> Method:
    if name == SINGLE_IMAGE or name.startswith(f'{SINGLE_IMAGE}:'):
        return SingleImageMethod(name.removeprefix(SINGLE_IMAGE).removeprefix(':'), protocol)
    if name == RANGE_ONLY:
        return RangeOnlyMethod()
    if name in FOCUS_MEASURES:
        return ClassicalMethod(name)
    if name.startswith('dfv:'):
        return DFVMethod(Path(name[4:]).expanduser(), device)
    if name == 'dfv':
        raise WeightsError(
            'no DFV weights are shipped: train them (dualfocus train --config dfv) and give their '
            "file as 'dfv:PATH'"
        )
    if name != 'auto' and not name.endswith('.safetensors') and name not in shipped_models():
        raise ValueError(
            f"unknown method '{name}': give a shipped model ({', '.join(shipped_models())}), the "
            f'path of a .safetensors file, {", ".join(FOCUS_MEASURES)}, dfv:PATH, {RANGE_ONLY} or '
            f'{SINGLE_IMAGE}'
        )
    return DualFocusMethod(name, device)


class DualFocusMethod:
    """A DualFocus network: shipped, or from a file (such as an ablation)."""

    def __init__(self, model: str, device: torch.device) -> None:
        loaded = load_model(model)
        self.name = loaded.name
        parameters = sum(p.numel() for p in loaded.network.parameters())
        size = f'{parameters / 1e6:.2f} M parameters'
        self.about = f'DualFocus, {size}, SHA-256 {loaded.sha256[:12]}'
        self._device = device
        self._network = fold_batch_norm(loaded.network).to(device)

    def estimate(self, case: Case) -> Estimate:
        """Estimate with sigma and focus probability."""
        focus = torch.from_numpy(case.focus).float().to(self._device)
        with torch.inference_mode():
            prediction = self._network(
                images_to_tensor(case.images, self._device)[None], focus[None]
            )
        return Estimate(
            prediction.dioptres[0].cpu().numpy(),
            prediction.sigma[0].cpu().numpy(),
            prediction.probability[0].cpu().numpy(),
        )


class ClassicalMethod:
    """A focus measure and the refined peak over the planes."""

    def __init__(self, measure: str) -> None:
        self.name = measure
        words = {'sml': 'sum-modified-Laplacian', 'rdf': 'ring difference filter'}[measure]
        self.about = f'{words}, 9x9 window, Gaussian peak in dioptres, no training'

    def estimate(self, case: Case) -> Estimate:
        """Estimate; a classical method has no sigma."""
        images = case.images
        if images.dtype != np.uint8:
            images = images * np.float32(255.0)
        return Estimate(classical_inverse_depth(images, case.focus, self.name))


class RangeOnlyMethod:
    """The control that looks at no image: the expectation under equal probabilities."""

    name = RANGE_ONLY
    about = 'no image: expectation of the focus list under equal probabilities'

    def estimate(self, case: Case) -> Estimate:
        """Return one constant, the middle of the focus list."""
        return Estimate(np.full(case.truth.shape, case.middle, np.float32))


class SingleImageMethod:
    """The control that sees one plane: a regression fitted on other views of the protocol."""

    name = SINGLE_IMAGE

    def __init__(self, data: str, protocol: Protocol) -> None:
        places = (data,) if data else SINGLE_IMAGE_VIEWS
        cases = []
        for place in places:
            dataset = open_dataset(place)
            logger.info('fitting %s on %s', self.name, dataset.description)
            cases += [
                make_case(dataset[index], dataset, protocol) for index in range(len(dataset))
            ]
        self.about = (
            f'one image: the middle plane and the ends of the focus list, regression fitted on '
            f'{len(cases)} stacks of {" and ".join(places)}'
        )
        self._regression = SingleImageRegression(cases)

    def estimate(self, case: Case) -> Estimate:
        """Estimate from the middle plane."""
        return Estimate(self._regression.estimate(case))


class DFVMethod:
    """DFV with weights trained by this package: far to near, expectation in dioptres."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.name = f'dfv:{path.stem}'
        network = load_dfv(path)
        parameters = sum(p.numel() for p in network.parameters())
        self.about = f'DFV, {parameters / 1e6:.2f} M parameters, {path.name}'
        self._device = device
        self._network = network.to(device)

    def estimate(self, case: Case) -> Estimate:
        """Estimate; sigma is the standard deviation of p, as DFV defines it."""
        order = np.argsort(case.focus, kind='stable')
        images = images_to_tensor(case.images[order], self._device)
        height, width = images.shape[-2:]
        padded = torch.nn.functional.pad(
            normalize_imagenet(images), (0, -width % 32, 0, -height % 32), mode='reflect'
        )
        focus = torch.from_numpy(case.focus[order]).float().to(self._device)[:, None, None]
        with torch.inference_mode():
            p = self._network.probabilities(padded[None])[0][0, :, :height, :width]
            position = (p * focus).sum(dim=0)
            sigma = (p * (focus - position).square()).sum(dim=0).sqrt()
        probability = np.empty(p.shape, np.float32)
        probability[order] = p.cpu().numpy()
        return Estimate(position.cpu().numpy(), sigma.cpu().numpy(), probability)


def images_to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Return (N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8 or float32.

    :raises ValueError: for values that are not finite.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    if images.dtype == np.uint8:
        return tensor.float() / 255.0
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError('the images have values that are not finite')
    return tensor.float()
