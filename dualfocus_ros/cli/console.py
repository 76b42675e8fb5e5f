# SPDX-License-Identifier: Apache-2.0
"""Output of commands: results on standard output, progress bars on terminals.

Messages are logged to standard error.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
import logging
import sys
from typing import Any

from tqdm import tqdm


def echo(text: str) -> None:
    """Write a line and flush, so that readers of a pipe get it at once."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


def echo_json(document: Any) -> None:
    """Write a JSON document."""
    echo(json.dumps(document, indent=2))


def progress_bar(
    description: str,
    items: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    unit: str = 'image',
    leave: bool = False,
) -> tqdm:
    """Return a tqdm bar, hidden with ``--quiet``.

    :param items: iterable to show the progress of; None to call ``update`` instead.
    :param leave: keep the finished bar on the screen.
    """
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    # tqdm's None shows a bar on terminals only.
    disable = True if quiet else None
    return tqdm(items, desc=description, total=total, unit=unit, leave=leave, disable=disable)
