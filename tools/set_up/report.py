# SPDX-License-Identifier: Apache-2.0
"""What the user sees of the set-up: short lines, one error, and a log file with everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import time


class SetUpError(Exception):
    """Ends the set-up; its text is the one line that tells the user what to do."""


class CommandError(Exception):
    """A command ended with an error; ``output`` is all that it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output

    def last_line(self) -> str:
        """Return the line that most likely names the cause."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines if 'error' in line.lower()]
        return (errors or lines or ['(it printed nothing)'])[-1]


class Report:
    """Progress on standard output, and the commands' output in a log file."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path

    def say(self, text: str) -> None:
        """Print one line of progress."""
        print(f'set-up: {text}', flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print what is being done, and how long it took once it is done."""
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

        :raises CommandError: when its exit status is not 0.
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
