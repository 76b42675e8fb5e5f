# SPDX-License-Identifier: Apache-2.0
"""Exit watchdog that works while the GIL is blocked."""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
import time

_SIGEV_THREAD = 2
_LARGEST_SIGEVENT = 64


class _SigEvent(ctypes.Structure):
    """``struct sigevent`` of Linux."""

    _fields_ = (
        ('value', ctypes.c_void_p),
        ('signal', ctypes.c_int),
        ('notify', ctypes.c_int),
        ('function', ctypes.c_void_p),
        ('rest', ctypes.c_byte * _LARGEST_SIGEVENT),
    )


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: seconds and nanoseconds."""

    _fields_ = (('interval', ctypes.c_long * 2), ('value', ctypes.c_long * 2))


def exit_after(seconds: float) -> None:
    """End this process with status 0 after a time, even if no Python code can run.

    A library call that holds the GIL and never returns blocks all Python threads and signal
    handlers; the destruction of a node in Fast DDS did so while its subscribers left. A timer of
    the operating system therefore calls ``_exit`` on a native thread. On systems without such a
    timer this function does nothing.
    """
    if sys.platform != 'linux':
        return
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        leave = ctypes.cast(libc._exit, ctypes.c_void_p)
        # The value is the argument of the function: the exit status.
        event = _SigEvent(value=0, notify=_SIGEV_THREAD, function=leave.value)
        timer = ctypes.c_void_p()
        if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
            return
        rest, whole = math.modf(seconds)
        setting = _TimerSpec(value=(int(whole), int(rest * 1e9)))
        libc.timer_settime(timer, 0, ctypes.byref(setting), None)
