# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes: the old file stays until the new one is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffix of ``path``, which replaces ``path`` at the end.

    After an exception the temporary file is removed. Devices and pipes are written directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename == str(partial):  # a name unknown to the user
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8."""
    write_bytes(path, text.encode('utf-8'))


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)
