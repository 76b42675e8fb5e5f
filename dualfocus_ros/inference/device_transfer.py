# SPDX-License-Identifier: Apache-2.0
"""Images to the device and results back, so that neither waits for the other.

On a GPU both go through pinned memory, which its copy engines read and write by themselves:
uploads on a stream of their own beside what is being computed, and all results of a stack in one
go with a single wait. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class DeviceTransfer:
    """The way to one device and back."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._uploads = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def upload(self, image: np.ndarray) -> Tensor:
        """Return an array as a tensor on the device.

        On a GPU the copy may still be under way; what is computed next waits for it by itself.
        """
        # An image whose channels were swapped by a slice runs backwards in memory.
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        if self._uploads is None:
            return pixels
        pinned = torch.empty_like(pixels, pin_memory=True).copy_(pixels)
        with torch.cuda.stream(self._uploads):
            there = pinned.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._uploads)
        # Its memory belongs to the other stream's pool: not to be used anew before this is done.
        there.record_stream(computing)
        return there

    def download(self, tensors: Sequence[Tensor | None]) -> list[np.ndarray | None]:
        """Return tensors as arrays, None for None, once all of them are there."""
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
