# SPDX-License-Identifier: Apache-2.0
"""Progress bars on terminals, off with ``--quiet``."""

from __future__ import annotations

from collections.abc import Iterable
import logging
from typing import Any

from tqdm import tqdm


def progress_bar(
    description: str,
    items: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    unit: str = 'image',
    leave: bool = False,
) -> tqdm:
    """Return a tqdm bar.

    :param items: iterable to show the progress of; None to call ``update`` instead.
    :param leave: keep the finished bar on the screen.
    """
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    # tqdm's None shows a bar on terminals only.
    disable = True if quiet else None
    return tqdm(items, desc=description, total=total, unit=unit, leave=leave, disable=disable)
