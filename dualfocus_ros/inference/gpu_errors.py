# SPDX-License-Identifier: Apache-2.0
"""Classification of GPU errors by the message of an exception. Imports no torch.

Classes are unreliable: torch's allocator raises ``OutOfMemoryError``, while CUDA, cuDNN and cuBLAS
raise other classes; a CUDA error is an ``AcceleratorError`` or a plain ``RuntimeError``, depending
on the release of torch. All are RuntimeErrors.
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
    """Kind of GPU error."""

    # The device works; retrying with less memory in use may succeed.
    OUT_OF_MEMORY = 'out of memory'
    LOST = 'lost'  # no later CUDA call of this process will succeed


def classify_gpu_error(error: BaseException | None) -> GpuFault | None:
    """Return the kind of GPU error of an exception; None for any other exception."""
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if _MEMORY.search(text):
        return GpuFault.OUT_OF_MEMORY
    return GpuFault.LOST if _LOST.search(text) else None
