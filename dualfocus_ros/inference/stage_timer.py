# SPDX-License-Identifier: Apache-2.0
"""Timing of the stages of an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import time


@contextmanager
def timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Record the milliseconds of a stage; on a GPU those of its launch, except where it waits."""
    began = time.monotonic()
    yield
    stages[name] = (time.monotonic() - began) * 1e3
