# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: separate DDS domain, loggers visible to pytest, marks of faults."""

from __future__ import annotations

from collections.abc import Iterator
import fcntl
import importlib.util
import logging
import os
from pathlib import Path
import sys
import tempfile
from typing import IO

import pytest

from faults import FAULTS, Results

ROOT = Path(__file__).resolve().parents[1]


def _import_research() -> None:
    """Import the studies, which are not installed.

    The repository root stays off the path: its folder ``launch`` would pass for the ROS package.
    """
    spec = importlib.util.spec_from_file_location('research', ROOT / 'research' / '__init__.py')
    assert spec is not None and spec.loader is not None
    sys.modules['research'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules['research'])


_import_research()

_RESULTS = Results()


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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer to run just the tests of the table of faults."""
    parser.addoption(
        '--faults',
        action='store_true',
        help='run the tests of docs/reliability.md, and say of '
        'each fault whether they passed; fails unless all did',
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests are about which faults, and leave out the others if asked to."""
    chosen, others = [], []
    for item in items:
        numbers = tuple(n for mark in item.iter_markers('fault') for n in mark.args)
        assert set(numbers) <= set(FAULTS), f'{item.nodeid}: there is no fault {numbers}'
        if numbers:
            _RESULTS.expect(item.nodeid, numbers)
        (chosen if numbers else others).append(item)
    if config.getoption('faults'):
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test."""
    _RESULTS.note(report.nodeid, report.when or '', report.outcome)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a fault has no test that passed, which skipped ones do not make up for."""
    asked = session.config.getoption('faults')
    passed = session.exitstatus == pytest.ExitCode.OK
    if asked and passed and not all(_RESULTS.is_green(number) for number in FAULTS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a line for each fault."""
    if config.getoption('faults'):
        terminalreporter.section('faults')
        for line in _RESULTS.lines():
            terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Choose domain and discovery range before any test imports ROS; child processes inherit."""
    config.addinivalue_line('markers', 'fault(number, ...): shows what docs/reliability.md says')
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
    of another class, cut off from the root logger that ``caplog`` listens to.
    """
    chosen = logging.getLoggerClass()
    logging.setLoggerClass(logging.Logger)
    for name in [*logging.root.manager.loggerDict]:
        if name.partition('.')[0] == 'dualfocus_ros':
            logging.getLogger(name).propagate = True
    yield
    logging.setLoggerClass(chosen)
