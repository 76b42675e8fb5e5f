# SPDX-License-Identifier: Apache-2.0
"""Keeps the C library from giving memory back to the system between two depth images.

The feature maps of a stack are tens of megabytes that are freed after each layer. Given back,
every page of them is faulted in and cleared again for the next layer: a fifth of the time of a
decoder.
"""

from __future__ import annotations

import ctypes

# Parameters of mallopt() in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that glibc takes: at 640 x 480 all that belongs to one plane is smaller.
_LARGEST_KEPT = 32 << 20
_MOST_KEPT = 256 << 20


def disable_malloc_trim() -> bool:
    """Let freed memory wait for its next use; return whether the C library can (glibc can)."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT))


def trim_malloc() -> None:
    """Give all that is not in use back to the system now, where the C library can."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
