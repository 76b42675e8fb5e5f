# SPDX-License-Identifier: Apache-2.0
"""DualFocus network as an evaluated method."""

from __future__ import annotations

import torch

from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.method_interface import Estimate, Method, images_to_tensor
from dualfocus_ros.models.layers import fold_batch_norm
from dualfocus_ros.models.weights import load_model, shipped_models


class DualFocusMethod(Method):
    """DualFocus network with shipped weights or a weights file, such as an ablation.

    :param model: name of a shipped model, ``auto``, or the path of a ``.safetensors`` file.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        loaded = load_model(model)
        self.name = loaded.name
        self.weights = 'shipped' if loaded.name in shipped_models() else 'file'
        self.parameters = sum(p.numel() for p in loaded.network.parameters())
        size = f'{self.parameters / 1e6:.2f} M parameters'
        self.about = f'DualFocus, {size}, SHA-256 {loaded.sha256[:12]}'
        self._device = device
        self._network = fold_batch_norm(loaded.network).to(device)

    def estimate(self, case: Case) -> Estimate:
        """Estimate position, sigma and focus probability."""
        focus = torch.from_numpy(case.focus).float().to(self._device)
        with torch.inference_mode():
            images = images_to_tensor(case.images, self._device)
            prediction = self._network(images[None], focus[None])
        return Estimate(
            prediction.dioptres[0].cpu().numpy(),
            prediction.sigma[0].cpu().numpy(),
            prediction.probability[0].cpu().numpy(),
        )
