# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all: what was there before stays until the new one is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path``, with its suffix; what is written there takes its place.

    After an exception nothing is left of it. A device or a pipe is written to directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename == str(partial):  # a name that the user has never heard of
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
