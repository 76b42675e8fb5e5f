# SPDX-License-Identifier: Apache-2.0
"""Encoding of the planes of a stack."""

from __future__ import annotations

from functools import partial

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.device_transfer import DeviceTransfer
from dualfocus_ros.inference.estimator_cache import EstimatorCache
from dualfocus_ros.inference.network_runner import NetworkRunner
from dualfocus_ros.inference.plane_encoding import EncodedPlane, encode_plane
from dualfocus_ros.inference.stack_analysis import StackAnalysis


def encode_stack(
    stack: FocalStack,
    analysis: StackAnalysis,
    transfer: DeviceTransfer,
    network: NetworkRunner,
    cache: EstimatorCache,
) -> list[EncodedPlane]:
    """Align and encode the planes of a stack that are not in the cache."""
    planes = []
    for index, plane in enumerate(stack.planes):
        gain = float(analysis.gains[index])
        encode = partial(
            encode_plane, plane.image, analysis.positions[index], gain, transfer, network
        )
        if analysis.motion[index] is None:
            mapping = analysis.mappings[index]
            planes.append(cache.encode(plane.image, mapping, gain, encode))
        else:
            # Motion is relative to this stack's reference plane: no other stack can share it.
            planes.append(encode())
    return planes
