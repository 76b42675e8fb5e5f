# SPDX-License-Identifier: Apache-2.0
"""Asynchronous copies of images to the device and of results to the host.

On a GPU both use pinned memory, which its copy engines access directly: uploads run on a second
stream in parallel with the computation, and all results of a stack are downloaded with a single
wait. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class DeviceTransfer:
    """Copies to and from one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._uploads = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def upload(self, image: np.ndarray) -> Tensor:
        """Return an array as a tensor on the device.

        On a GPU the copy may still be in progress; later computations on the current stream wait
        for it.
        """
        # Channels swapped by a slice have negative strides, which torch does not support.
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        if self._uploads is None:
            return pixels
        pinned = torch.empty_like(pixels, pin_memory=True).copy_(pixels)
        with torch.cuda.stream(self._uploads):
            uploaded = pinned.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._uploads)
        # Its memory belongs to the pool of the upload stream: keep it until this stream is done.
        uploaded.record_stream(computing)
        return uploaded

    def download(self, tensors: Sequence[Tensor | None]) -> list[np.ndarray | None]:
        """Return tensors as arrays, None for None, after waiting for all of them."""
        if self._uploads is None:
            return [None if tensor is None else tensor.numpy() for tensor in tensors]
        pinned = [
            None
            if tensor is None
            else torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                tensor, non_blocking=True
            )
            for tensor in tensors
        ]
        torch.cuda.current_stream(self._device).synchronize()
        return [None if tensor is None else tensor.numpy() for tensor in pinned]
