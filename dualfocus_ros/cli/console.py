# SPDX-License-Identifier: Apache-2.0
"""Results of commands on standard output; messages are logged to standard error."""

from __future__ import annotations

import sys


def echo(text: str) -> None:
    """Write a line and flush, so that readers of a pipe get it at once."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()
