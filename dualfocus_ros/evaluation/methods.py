# SPDX-License-Identifier: Apache-2.0
"""Registry of the methods that are compared by evaluation, benchmark and studies.

A new method implements ``Method`` and gets an entry in :data:`METHODS`. Every other name is a
DualFocus model or a weights file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.evaluation.classical import ClassicalMethod
from dualfocus_ros.evaluation.method_interface import (
    PRECISION_NAMES,
    Case,
    Estimate,
    Method,
    images_to_tensor,
)
from dualfocus_ros.evaluation.protocols import ProtocolB, StackProtocol
from dualfocus_ros.evaluation.single_image import SINGLE_IMAGE, SingleImageMethod
from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.dfv import DFV, load_dfv
from dualfocus_ros.models.layers import fold_batch_norm
from dualfocus_ros.models.resnet import normalize_imagenet
from dualfocus_ros.models.weights import load_model, shipped_models

RANGE_ONLY = 'range-only'


@dataclass(frozen=True)
class MethodOptions:
    """Options for opening methods.

    :param protocol: renders the views that ``single-image`` is fitted on.
    :param dtype: number format of timed runs, where a method has a choice.
    :param random_weights: whether methods without shipped weights get random ones, for timing.
    """

    device: torch.device
    protocol: StackProtocol = field(default_factory=ProtocolB)
    dtype: torch.dtype = torch.float32
    random_weights: bool = False


class DualFocusMethod(Method):
    """DualFocus network with shipped weights or a weights file, such as an ablation.

    :param model: name of a shipped model, ``auto``, or the path of a ``.safetensors`` file.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        loaded = load_model(model)
        self.name, self._device = loaded.name, device
        self.weights = 'shipped' if loaded.name in shipped_models() else 'file'
        self.parameters = sum(p.numel() for p in loaded.network.parameters())
        size = f'{self.parameters / 1e6:.2f} M parameters'
        self.about = f'DualFocus, {size}, SHA-256 {loaded.sha256[:12]}'
        self._network = fold_batch_norm(loaded.network).to(device)

    def estimate(self, case: Case) -> Estimate:
        focus = torch.from_numpy(case.focus).float().to(self._device)
        with torch.inference_mode():
            images = images_to_tensor(case.images, self._device)
            prediction = self._network(images[None], focus[None])
        maps = prediction.dioptres, prediction.sigma, prediction.probability
        return Estimate(*(values[0].cpu().numpy() for values in maps))


class DFVMethod(Method):
    """DFV (Yang et al., CVPR 2022): focus from far to near, depth as an expectation in dioptres.

    :param path: weights file; empty for random weights, if the options allow them.
    :param options: ``dtype`` applies to :meth:`run`; :meth:`estimate` computes in fp32.
    """

    def __init__(self, path: str, options: MethodOptions) -> None:
        if path:
            file = Path(path).expanduser()
            network, source = load_dfv(file), file.name
            self.name, self.weights = f'dfv:{file.stem}', 'file'
        elif options.random_weights:
            torch.manual_seed(0)
            network, source = DFV(), 'random weights'
            self.name, self.weights = 'dfv', 'random'
        else:
            raise WeightsError(
                'no DFV weights are shipped: train them (dualfocus train --config dfv) and give '
                "their file as 'dfv:PATH'"
            )
        self.precision = PRECISION_NAMES[options.dtype]
        self.parameters = sum(p.numel() for p in network.parameters())
        self.about = f'DFV, {self.parameters / 1e6:.2f} M parameters, {source}'
        self._device, self._dtype = options.device, options.dtype
        self._network = network.eval().to(self._device)

    def estimate(self, case: Case) -> Estimate:
        order = np.argsort(case.focus, kind='stable')
        images = images_to_tensor(case.images[order], self._device)
        height, width = images.shape[-2:]
        focus = torch.from_numpy(case.focus[order]).float().to(self._device)[:, None, None]
        with torch.inference_mode():
            p = self._network.probabilities(_network_input(images)[None])[0][0]
            p = p[:, :height, :width]
            position = (p * focus).sum(dim=0)
            sigma = (p * (focus - position).square()).sum(dim=0).sqrt()
        probability = np.empty(p.shape, np.float32)
        probability[order] = p.cpu().numpy()
        return Estimate(position.cpu().numpy(), sigma.cpu().numpy(), probability)

    def run(self, images: np.ndarray, focus: np.ndarray) -> dict[str, float]:
        """Normalise the images, run the network and fetch the depth, as published."""
        self._synchronize()
        with torch.inference_mode():
            start = time.perf_counter()
            padded = _network_input(images_to_tensor(images, self._device))
            distances = torch.from_numpy(focus).float().to(self._device)
            self._synchronize()
            prepared = time.perf_counter()
            mixed = self._dtype != torch.float32
            with torch.autocast(self._device.type, self._dtype, enabled=mixed):
                depth = self._network(padded[None], distances[None])[0]
            depth.float().cpu()
            end = time.perf_counter()
        return {'prepare': (prepared - start) * 1e3, 'network': (end - prepared) * 1e3}

    def _synchronize(self) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)


def _network_input(images: Tensor) -> Tensor:
    """Return normalised images, padded to multiples of 32 pixels."""
    height, width = images.shape[-2:]
    padding = (0, -width % 32, 0, -height % 32)
    return torch.nn.functional.pad(normalize_imagenet(images), padding, mode='reflect')


class RangeOnlyMethod(Method):
    """Range-only control: a constant estimate from the focus list, without images."""

    name = RANGE_ONLY
    about = 'no image: expectation of the focus list under equal probabilities'

    def estimate(self, case: Case) -> Estimate:
        return Estimate(np.full(case.truth.shape, case.middle, np.float32))


@dataclass(frozen=True)
class MethodEntry:
    """Registered method, with the commands that use it by default.

    :param open: called with the text after the colon of ``NAME:ARGUMENT``, and the options.
    :param usage: names as users type them.
    """

    open: Callable[[str, MethodOptions], Method]
    usage: str
    evaluated: bool = False
    benchmarked: bool = False


METHODS: dict[str, MethodEntry] = {
    'dfv': MethodEntry(DFVMethod, 'dfv:PATH', benchmarked=True),
    'sml': MethodEntry(lambda _, __: ClassicalMethod('sml'), 'sml', True, True),
    'rdf': MethodEntry(lambda _, __: ClassicalMethod('rdf'), 'rdf', True, True),
    RANGE_ONLY: MethodEntry(lambda _, __: RangeOnlyMethod(), RANGE_ONLY, evaluated=True),
    SINGLE_IMAGE: MethodEntry(
        lambda data, given: SingleImageMethod(data, given.protocol), f'{SINGLE_IMAGE}[:KIND:PLACE]'
    ),
}
USAGE = ', '.join(entry.usage for entry in METHODS.values())


def default_methods() -> list[str]:
    """Return the names that are evaluated by default: shipped models, baselines, control."""
    return [*shipped_models(), *(name for name, entry in METHODS.items() if entry.evaluated)]


def find_entry(name: str) -> tuple[MethodEntry, str] | None:
    """Return the entry and the argument of ``NAME[:ARGUMENT]``; None for a DualFocus model."""
    key, _, argument = name.partition(':')
    return (METHODS[key], argument) if key in METHODS else None


def open_method(name: str, options: MethodOptions) -> Method:
    """Open a method by its registered name, a shipped model or a ``.safetensors`` file.

    :raises ValueError: for an unknown name or unusable weights.
    """
    if found := find_entry(name):
        entry, argument = found
        return entry.open(argument, options)
    if name != 'auto' and not name.endswith('.safetensors') and name not in shipped_models():
        raise ValueError(
            f"unknown method '{name}': expected a shipped model ({', '.join(shipped_models())}), "
            f'the path of a .safetensors file, or one of {USAGE}'
        )
    return DualFocusMethod(name, options.device)


def open_methods(
    names: Sequence[str], device: torch.device, protocol: StackProtocol | None = None
) -> list[Method]:
    """Open methods by name; without names, the default methods.

    :param protocol: renders the views that ``single-image`` is fitted on; default protocol B.
    :raises ValueError: for an unknown name, unusable weights, or two methods of one name.
    """
    options = MethodOptions(device, protocol or ProtocolB())
    names = names or default_methods()
    return list(open_unique(names, lambda name: open_method(name, options)).values())


def open_unique(requested: Iterable[str], open_one: Callable[[str], Any]) -> dict[str, Any]:
    """Open each requested name once; return the methods by requested name.

    :raises ValueError: if two methods have one ``name`` in tables.
    """
    opened: dict[str, Any] = {}
    for request in dict.fromkeys(requested):
        method = open_one(request)
        for other, earlier in opened.items():
            if earlier.name == method.name:
                raise ValueError(
                    f"'{other}' and '{request}' are both called '{method.name}' in tables: "
                    'leave one out, or rename one weights file'
                )
        opened[request] = method
    return opened
