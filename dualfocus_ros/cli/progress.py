# SPDX-License-Identifier: Apache-2.0
"""A progress bar that --quiet turns off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging

from tqdm import tqdm


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], object]]:
    """Show a bar; yields what is to be called after each of ``total`` steps."""
    quiet = not logging.getLogger('dualfocus_ros').isEnabledFor(logging.INFO)
    with tqdm(
        total=total, desc=what, unit='image', leave=False, disable=True if quiet else None
    ) as bar:
        yield bar.update
