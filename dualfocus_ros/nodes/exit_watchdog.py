# SPDX-License-Identifier: Apache-2.0
"""The end of a process in which no Python code can run any more."""

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
    """End this process with status 0 after a time, whatever its threads do.

    A call into a library that never returns and keeps the interpreter's lock, as the destruction
    of a node was seen to do in Fast DDS while its subscribers left, keeps every thread of Python
    from running, and signal handlers too. So the system's own timer calls ``_exit`` on a thread
    that Python does not know. Where there is no such timer nothing is done.
    """
    if sys.platform != 'linux':
        return
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        leave = ctypes.cast(libc._exit, ctypes.c_void_p)
        # The value is what the function gets: the exit status.
        event = _SigEvent(value=0, notify=_SIGEV_THREAD, function=leave.value)
        timer = ctypes.c_void_p()
        if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
            return
        rest, whole = math.modf(seconds)
        setting = _TimerSpec(value=(int(whole), int(rest * 1e9)))
        libc.timer_settime(timer, 0, ctypes.byref(setting), None)
