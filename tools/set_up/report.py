# SPDX-License-Identifier: Apache-2.0
"""Progress and errors of the set-up: short lines for the user, all output in a log file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import time


class SetUpError(Exception):
    """End of the set-up, with one line that states the remedy."""


class CommandError(Exception):
    """Failed command with its output."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output

    def last_line(self) -> str:
        """Return the last line with an error, else the last line."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines if 'error' in line.lower()]
        return (errors or lines or ['(no output)'])[-1]


class Report:
    """Progress on standard output; output of commands in a log file."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path

    def say(self, text: str) -> None:
        """Print one line of progress."""
        print(f'set-up: {text}', flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print a step, and its duration when done."""
        print(f'set-up: {text} ... ', end='', flush=True)
        start = time.monotonic()
        try:
            yield
        except BaseException:
            print('failed', flush=True)
            raise
        print(f'{time.monotonic() - start:.0f} s', flush=True)

    def run(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> None:
        """Run a command with its output in the log file.

        :raises CommandError: if its exit status is not 0.
        """
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open('a+', encoding='utf-8', errors='replace') as log:
            log.write('\n$ ' + ' '.join(map(str, command)) + '\n')
            log.flush()
            start = log.seek(0, os.SEEK_END)
            status = subprocess.run(
                command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ).returncode
            if status != 0:
                log.seek(start)
                raise CommandError(log.read())
