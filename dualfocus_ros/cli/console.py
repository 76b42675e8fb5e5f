# SPDX-License-Identifier: Apache-2.0
"""What a command was asked for goes to standard output; all else is logged."""

from __future__ import annotations

import sys


def echo(text: str) -> None:
    """Write a line, at once: what reads a pipe must not wait for the next one."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()
