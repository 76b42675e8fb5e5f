# SPDX-License-Identifier: Apache-2.0
"""What went wrong on a GPU, told from an exception. Imports no torch.

Told from the words, because the classes differ: memory that torch's allocator cannot get is an
``OutOfMemoryError``, memory that CUDA, cuDNN or cuBLAS cannot get is not, and a CUDA error is an
``AcceleratorError`` or a plain ``RuntimeError`` by the release of torch. All are RuntimeErrors.
"""

from __future__ import annotations

import enum
import re

_MEMORY = re.compile(
    r'out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|'
    r"DefaultCPUAllocator: can't allocate memory",
    re.IGNORECASE,
)
_LOST = re.compile(
    r'CUDA error|CUDA driver|cuDNN error|CUDNN_STATUS_|CUBLAS_STATUS_|device-side assert|'
    r'NVML|unspecified launch failure|No CUDA GPUs are available',
)


class GpuFault(enum.Enum):
    """What can be done about an exception."""

    OUT_OF_MEMORY = 'out of memory'  # the device works: with less on it the same may succeed
    LOST = 'lost'  # no call of CUDA in this process will succeed from now on


def classify_gpu_error(error: BaseException | None) -> GpuFault | None:
    """Return which fault of the device an exception tells of; None for any other exception."""
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if _MEMORY.search(text):
        return GpuFault.OUT_OF_MEMORY
    return GpuFault.LOST if _LOST.search(text) else None
