# SPDX-License-Identifier: Apache-2.0
"""Alignment and encoding of single planes: the part of the network that needs one plane only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dualfocus_ros.inference.device_transfer import DeviceTransfer
from dualfocus_ros.inference.exposure import apply_gain
from dualfocus_ros.inference.network_runner import NetworkRunner
from dualfocus_ros.inference.resampling import SourcePositions, resample_plane, to_tensor
from dualfocus_ros.models.encoders import PlaneFeatures


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


def align_plane(
    image: np.ndarray, positions: SourcePositions, gain: float, transfer: DeviceTransfer
) -> Tensor:
    """Resample a plane to the reference geometry and equalise its exposure, (3, H, W).

    The image is interpolated once: ``positions`` combine lens distortion, binning, region of
    interest, breathing and motion.

    :param image: (H, W, 3) or (H, W) uint8.
    :param gain: factor on linear light.
    """
    pixels = to_tensor(transfer.upload(image))
    return apply_gain(resample_plane(pixels, positions), gain)


def encode_plane(
    image: np.ndarray,
    positions: SourcePositions,
    gain: float,
    transfer: DeviceTransfer,
    network: NetworkRunner,
) -> EncodedPlane:
    """Align and encode a plane; parameters as for :func:`align_plane`."""
    aligned = align_plane(image, positions, gain, transfer)
    return EncodedPlane(aligned, network.encode(aligned))
