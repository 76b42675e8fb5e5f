# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes."""

import os
from pathlib import Path
import stat

import pytest

from dualfocus_ros.io.atomic_files import atomic_write, write_bytes, write_text


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / 'figures.txt'
    write_text(path, 'before')
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_text('half')
        assert partial.parent == tmp_path and partial.suffix == '.txt'
        raise RuntimeError
    assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]
    write_text(path, 'äfter')
    assert path.read_text('utf-8') == 'äfter' and list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    line = next(li for li in Path('/proc/self/status').read_text().splitlines() if 'Umask' in li)
    return int(line.split()[1], 8)


def test_errors_name_the_file_of_the_caller(tmp_path):
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / 'missing' / 'file.txt', 'text')
    assert caught.value.filename == str(tmp_path / 'missing' / 'file.txt')


def test_pipes_are_written_directly(tmp_path):
    path = tmp_path / 'pipe'
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_bytes(path, b'data')
        assert os.read(reader, 10) == b'data'
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
