# SPDX-License-Identifier: Apache-2.0
"""DFV (Yang et al., CVPR 2022) as an evaluated method."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.method_interface import (
    PRECISION_NAMES,
    Estimate,
    Method,
    images_to_tensor,
)
from dualfocus_ros.models.dfv import DFV
from dualfocus_ros.models.resnet import normalize_imagenet


class DFVMethod(Method):
    """DFV: focus from far to near, depth as an expectation in dioptres.

    :param name: name in tables.
    :param source: weights, for the ``about`` text.
    :param dtype: number format of :meth:`run`; :meth:`estimate` computes in fp32.
    """

    def __init__(
        self,
        network: DFV,
        name: str,
        source: str,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.weights = 'random' if name == 'dfv' else 'file'
        self.precision = PRECISION_NAMES[dtype]
        self.parameters = sum(p.numel() for p in network.parameters())
        self.about = f'DFV, {self.parameters / 1e6:.2f} M parameters, {source}'
        self._device = device
        self._dtype = dtype
        self._network = network.eval().to(device)

    def estimate(self, case: Case) -> Estimate:
        """Estimate position, probability, and sigma as the standard deviation of p."""
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
