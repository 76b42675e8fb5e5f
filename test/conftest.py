# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a DDS domain of their own, and loggers that pytest hears."""

from __future__ import annotations

from collections.abc import Iterator
import fcntl
import logging
import os
from pathlib import Path
import tempfile
from typing import IO

import pytest


def _claim_domain() -> tuple[int, IO[str]]:
    """Take a DDS domain that no other test run of this user holds, by locking a file.

    The lock goes with the returned file, so a run that is killed leaves nothing behind.

    :raises RuntimeError: when all of them are taken.
    """
    folder = Path(tempfile.gettempdir()) / f'dualfocus-test-domains-{os.getuid()}'
    folder.mkdir(exist_ok=True)
    # 0 is everyone's default; above 101 the ports of Linux's ephemeral range are used.
    for domain in range(1, 102):
        lock = (folder / str(domain)).open('w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            return domain, lock
    raise RuntimeError(f'all DDS domains from 1 to 101 are taken by test runs: see {folder}')


def pytest_configure(config: pytest.Config) -> None:
    """Choose domain and discovery range before any test imports ROS; child processes inherit."""
    if 'ROS_DOMAIN_ID' not in os.environ:
        domain, lock = _claim_domain()
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        config.add_cleanup(lock.close)
    if os.environ.get('ROS_DISTRO') == 'humble':  # which knows only this older name
        os.environ.setdefault('ROS_LOCALHOST_ONLY', '1')
    else:
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


@pytest.fixture(autouse=True)
def ordinary_loggers() -> Iterator[None]:
    """Let records of our loggers reach pytest on a ROS machine too.

    There pytest loads a plugin that imports ``launch``, which makes every logger from then on one
    of its own kind, cut off from the root logger that ``caplog`` listens to.
    """
    chosen = logging.getLoggerClass()
    logging.setLoggerClass(logging.Logger)
    for name in [*logging.root.manager.loggerDict]:
        if name.partition('.')[0] == 'dualfocus_ros':
            logging.getLogger(name).propagate = True
    yield
    logging.setLoggerClass(chosen)
