# SPDX-License-Identifier: Apache-2.0
"""Network on its device: precision and CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.inference.cuda_graphs import CudaGraphCache
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from dualfocus_ros.models.dualfocus import DualFocus, Prediction
from dualfocus_ros.models.encoders import PlaneFeatures


class NetworkRunner:
    """Encoder and decoder of a network on one device, without gradients.

    :param network: in evaluation mode; batch normalisation is folded into its convolutions.
    :param dtype: of the convolutions; the projection and the expectation are in float32.
    :param cuda_graphs: whether calls of repeated shapes are captured in CUDA graphs.
    """

    def __init__(
        self, network: DualFocus, device: torch.device, dtype: torch.dtype, cuda_graphs: bool
    ) -> None:
        self._device = device
        self._dtype = dtype
        self.module: DualFocus = fold_batch_norm(network).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.graphs = CudaGraphCache(cuda_graphs)

    def encode(self, image: Tensor) -> PlaneFeatures:
        """Encode an aligned plane, (3, H, W) in [0, 1]."""

        def run(tensors: Sequence[Tensor]) -> PlaneFeatures:
            with self._autocast():
                return self.module.encode(tensors[0])

        return self.graphs.run('encode', run, [image[None]])

    def decode(
        self,
        planes: Sequence[PlaneFeatures],
        focus_dioptres: np.ndarray,
        size: tuple[int, int],
        with_sigma: bool,
    ) -> Prediction:
        """Decode a stack from its planes' features.

        :param planes: from far to near.
        :param focus_dioptres: (N,) focus of each plane, ascending.
        :param size: height and width of the planes.
        :param with_sigma: whether to compute the standard deviation.
        """
        features = PlaneFeatures.join(planes)
        focus = torch.from_numpy(focus_dioptres).float().to(self._device)

        def run(tensors: Sequence[Tensor]) -> Prediction:
            far_to_near, *parts = tensors
            with self._autocast():
                return self.module.decode_sorted(
                    features.with_tensors(parts), far_to_near, size, with_sigma
                )

        name = 'decode', size, with_sigma
        return self.graphs.run(name, run, [focus[None], *features.tensors])

    def release(self) -> None:
        """Free the memory of the network; the runner cannot be used afterwards."""
        del self.module
        self.graphs.clear()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32
        )
