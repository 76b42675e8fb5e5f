# SPDX-License-Identifier: Apache-2.0
"""Network on its device: encoding of planes and decoding of stacks, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.inference.cuda_graphs import CudaGraphCache
from dualfocus_ros.inference.device import DeviceTransfer
from dualfocus_ros.inference.exposure import apply_gain
from dualfocus_ros.inference.resampling import SourcePositions, resample_plane, to_tensor
from dualfocus_ros.models.dualfocus import DualFocus, Prediction
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.layers import fold_batch_norm


@dataclass(frozen=True, eq=False)
class EncodedPlane:
    """Input of the decoder from one plane.

    :param image: (3, H, W) float in [0, 1], in the geometry of the reference plane.
    :param features: of this one plane.
    """

    image: Tensor
    features: PlaneFeatures

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.features.nbytes + self.image.nbytes


@dataclass(frozen=True, eq=False)
class DecodedStack:
    """Prediction for a stack, with its planes from far to near.

    :param images: N aligned planes, (3, H, W) in [0, 1].
    :param order: (N,) index of each of them in the stack.
    """

    prediction: Prediction
    images: Sequence[Tensor]
    order: np.ndarray


class NetworkRunner:
    """Encoder and decoder of a network on the device of a transfer.

    :param network: in evaluation mode; batch normalisation is folded into its convolutions.
    :param dtype: of the convolutions; the projection and the expectation are in float32.
    :param cuda_graphs: whether calls of repeated shapes are captured in CUDA graphs.
    """

    def __init__(
        self, network: DualFocus, transfer: DeviceTransfer, dtype: torch.dtype, cuda_graphs: bool
    ) -> None:
        self._transfer = transfer
        self._dtype = dtype
        self.module: DualFocus = fold_batch_norm(network).to(
            transfer.device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.graphs = CudaGraphCache(cuda_graphs)

    def encode(self, image: np.ndarray, positions: SourcePositions, gain: float) -> EncodedPlane:
        """Align and encode a plane; parameters as for :func:`align_plane`."""
        aligned = align_plane(self._transfer.upload(image), positions, gain)

        def run(tensors: Sequence[Tensor]) -> PlaneFeatures:
            with self._autocast():
                return self.module.encode(tensors[0])

        return EncodedPlane(aligned, self.graphs.run('encode', run, [aligned[None]]))

    def decode(
        self, planes: Sequence[EncodedPlane], focus_dioptres: np.ndarray, with_sigma: bool
    ) -> DecodedStack:
        """Decode a stack.

        :param focus_dioptres: (N,) focus of each plane.
        :param with_sigma: whether to compute the standard deviation.
        """
        order = np.argsort(focus_dioptres, kind='stable')
        far_to_near = [planes[index] for index in order]
        height, width = far_to_near[0].image.shape[-2:]
        features = PlaneFeatures.join([plane.features for plane in far_to_near])
        focus = torch.from_numpy(focus_dioptres[order]).float().to(self._transfer.device)

        def run(tensors: Sequence[Tensor]) -> Prediction:
            focus, *parts = tensors
            with self._autocast():
                return self.module.decode_sorted(
                    features.with_tensors(parts), focus, (height, width), with_sigma
                )

        name = 'decode', height, width, with_sigma
        prediction = self.graphs.run(name, run, [focus[None], *features.tensors])
        return DecodedStack(prediction, [plane.image for plane in far_to_near], order)

    def release(self) -> None:
        """Free the memory of the network; the runner cannot be used afterwards."""
        del self.module
        self.graphs.clear()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._transfer.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32
        )


def align_plane(pixels: Tensor, positions: SourcePositions, gain: float) -> Tensor:
    """Resample a plane to the reference geometry and equalise its exposure, (3, H, W).

    The image is interpolated once: ``positions`` combine lens distortion, binning, region of
    interest, breathing and motion.

    :param pixels: (H, W, 3) or (H, W) uint8.
    :param gain: factor on linear light.
    """
    return apply_gain(resample_plane(to_tensor(pixels), positions), gain)
