# SPDX-License-Identifier: Apache-2.0
"""Compute device: selection, precision, threads, memory of the host, and copies."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.exceptions import DeviceError

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
# Parameters of mallopt() in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest value that glibc accepts; at 640 x 480 each tensor of one plane is smaller.
_MAX_HEAP_BLOCK = 32 << 20
_MAX_KEPT = 256 << 20


def resolve_device(device: str) -> torch.device:
    """Return the torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    :raises DeviceError: for an unknown or unavailable device.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    kind, _, index = device.partition(':')
    if kind not in ('cpu', 'cuda') or (index and not index.isdigit()) or (kind == 'cpu' and index):
        raise DeviceError(f"device must be auto, cuda, cuda:N or cpu, got '{device}'")
    if kind == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise DeviceError(
                f"device '{device}' is not available: torch {torch.__version__} sees {count} CUDA "
                "devices; use device 'auto' or 'cpu', or install a CUDA build of torch"
            )
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the convolutions; ``auto`` is fp16 on CUDA and fp32 on a CPU.

    :raises DeviceError: for an unknown name, or fp16 on a CPU.
    """
    if precision == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if precision not in _DTYPES:
        names = ', '.join(['auto', *_DTYPES])
        raise DeviceError(f"precision must be one of {names}, got '{precision}'")
    if precision == 'fp16' and device.type == 'cpu':
        raise DeviceError("precision 'fp16' is for CUDA; use 'fp32' or 'bf16' on a CPU")
    return _DTYPES[precision]


def default_threads() -> int:
    """Return the default number of CPU threads: all processors but one, at least one.

    The remaining processor serves the camera driver and the executor.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1)


def describe_device(device: torch.device) -> str:
    """Return a readable name, such as ``cuda:0 (NVIDIA ...)``."""
    if device.type == 'cuda':
        return f'cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'


def disable_malloc_trim() -> bool:
    """Keep freed memory in the process; return whether the C library supports it (glibc does).

    The feature maps of a stack are tens of megabytes that are freed after each layer. Returned to
    the system, each of their pages would be faulted in and cleared for the next layer, which takes
    a fifth of the time of a decoder.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MAX_HEAP_BLOCK) and mallopt(_TRIM_THRESHOLD, _MAX_KEPT))


def trim_malloc() -> None:
    """Return all freed memory to the system, where the C library supports it."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


class DeviceTransfer:
    """Asynchronous copies of images to a device and of results to the host.

    On a GPU both use pinned memory, which its copy engines access directly: uploads run on a
    second stream in parallel with the computation, and all results of a stack are downloaded with
    a single wait. On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
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
            uploaded = pinned.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._uploads)
        # Its memory belongs to the pool of the upload stream: keep it until this stream is done.
        uploaded.record_stream(computing)
        return uploaded

    def download(self, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Return tensors as arrays after waiting for all of them."""
        if self._uploads is not None:
            tensors = {
                name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                    tensor, non_blocking=True
                )
                for name, tensor in tensors.items()
            }
            torch.cuda.current_stream(self.device).synchronize()
        return {name: tensor.numpy() for name, tensor in tensors.items()}
