# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/calibration.md, as people would type them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import re
import signal
import subprocess

DOCUMENT = Path(__file__).parents[2] / 'docs/calibration.md'
_PATIENCE = 170.0


def commands(part: str) -> str:
    """Return the one block of commands that contains this text."""
    blocks = re.findall(r'```bash\n(.*?)```', DOCUMENT.read_text('utf-8'), re.S)
    found = [block for block in blocks if part in block]
    assert len(found) == 1, f'{len(found)} blocks of {DOCUMENT.name} contain {part!r}'
    return found[0]


def run(script: str, folder: Path) -> None:
    """Run commands in a folder; fail with their output."""
    log = folder / 'log.txt'
    with log.open('wb') as file:
        process = subprocess.Popen(
            ['bash', '-c', script],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ.copy(),
            start_new_session=True,
        )
        try:
            status = process.wait(_PATIENCE)
        finally:
            # Background processes of the script end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text(errors='replace')
    assert status == 0, f'status {status}:\n{text}'
    assert 'Traceback' not in text and 'error:' not in text, text
