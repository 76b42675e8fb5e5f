# SPDX-License-Identifier: Apache-2.0
"""Allocator settings of the C library.

The feature maps of a stack are tens of megabytes that are freed after each layer. Returned to the
system, each of their pages would be faulted in and cleared for the next layer, which takes a fifth
of the time of a decoder.
"""

from __future__ import annotations

import ctypes

# Parameters of mallopt() in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest value that glibc accepts; at 640 x 480 each tensor of one plane is smaller.
_MAX_HEAP_BLOCK = 32 << 20
_MAX_KEPT = 256 << 20


def disable_malloc_trim() -> bool:
    """Keep freed memory in the process; return whether the C library supports it (glibc does)."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MAX_HEAP_BLOCK) and mallopt(_TRIM_THRESHOLD, _MAX_KEPT))


def trim_malloc() -> None:
    """Return all freed memory to the system, where the C library supports it."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
