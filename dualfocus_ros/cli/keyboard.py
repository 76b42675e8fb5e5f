# SPDX-License-Identifier: Apache-2.0
"""Single keys from the terminal, if one is attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
import select
import signal
import sys
import time

Wait = Callable[[float], str | None]


def sleep(seconds: float) -> str | None:
    """Wait without a keyboard."""
    time.sleep(max(0.0, seconds))
    return None


@contextmanager
def keys() -> Iterator[Wait]:
    """Return what waits for so many seconds or until a key is pressed, which it returns.

    Keys come without Enter and are not shown. Without a terminal there are none.
    """
    if not sys.stdin or not sys.stdin.isatty() or not _in_foreground(sys.stdin.fileno()):
        yield sleep
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def wait(seconds: float) -> str | None:
        # A process in the background would be stopped by reading.
        if not _in_foreground(terminal):
            return sleep(seconds)
        ready, _, _ = select.select([terminal], [], [], max(0.0, seconds))
        if not ready:
            return None
        pressed = os.read(terminal, 1)
        return pressed.decode('ascii', 'ignore') or None

    try:
        tty.setcbreak(terminal)
        yield wait
    finally:
        # In the background by now, perhaps: this too would stop the process.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # a terminal that does not control this process
        return True
