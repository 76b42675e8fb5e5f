# SPDX-License-Identifier: Apache-2.0
"""Progress reports of long runs, in the form of a tqdm bar."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from tqdm import tqdm


class Progress(Protocol):
    """Receiver of progress reports; a tqdm bar is one."""

    total: float | None

    def reset(self, total: float | None = None) -> None: ...
    def update(self, n: float | None = 1) -> bool | None: ...
    def refresh(self) -> object: ...
    def set_description(self, desc: str | None = None) -> None: ...


# Receiver that discards progress reports.
NoProgress = partial(tqdm, disable=True)
