# SPDX-License-Identifier: Apache-2.0
"""Create or update the environment and the build; run by ``tools/set_up.sh``."""

from __future__ import annotations

import argparse
import fcntl
import os
from pathlib import Path
import sys
import time

from environment import Environment
from package_build import ensure_built
from report import CommandError, Report, SetUpError


def main() -> int:
    """Set up this checkout; return the exit status."""
    parser = argparse.ArgumentParser(prog='set_up')
    parser.add_argument('--distro', default='', help='the sourced ROS 2 distro to build on')
    distro = parser.parse_args().distro
    root = Path(__file__).resolve().parents[2]
    report = Report(root / 'log' / 'set_up.log')
    environment = Environment(root, distro, report)
    # One set-up at a time; the lock is released when this process exits.
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say('waiting for another set-up of this folder to finish')
            fcntl.flock(folder, fcntl.LOCK_EX)
        start = time.monotonic()
        environment.ensure()
        ensure_built(environment)
        if time.monotonic() - start > 3:
            report.say(f'done in {time.monotonic() - start:.0f} s')
        return 0
    except SetUpError as failure:
        message = str(failure)
    except CommandError as failed:
        message = f'failed: {failed.last_line()}; details in {report.log_path}'
    except OSError as error:
        message = f'failed: {error}'
    except KeyboardInterrupt:
        print('set-up: interrupted; the next call continues', file=sys.stderr)
        return 130
    print(f'set-up: {message}', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
