# SPDX-License-Identifier: Apache-2.0
"""Nodes as child processes on a separate DDS domain, and their shutdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import ctypes
import logging
import os
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
PROFILE = 'fastdds_large_images.xml'


def isolated_environment() -> dict[str, str]:
    """Return environment variables for DDS on this machine only, on a random domain.

    A domain and a DDS profile of the user are kept.
    """
    # Domain 0 is the default; above 101, ports overlap the ephemeral range of Linux.
    domain = os.environ.get('ROS_DOMAIN_ID') or str(random.SystemRandom().randint(1, 101))
    variables = {'ROS_DOMAIN_ID': domain}
    if os.environ.get('ROS_DISTRO') == 'humble':
        variables['ROS_LOCALHOST_ONLY'] = '1'
    else:
        variables['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    profile = find_config(PROFILE)
    if not any(os.environ.get(name) for name in names) and profile is not None:
        variables.update(dict.fromkeys(names, str(profile)))
    return variables


def find_config(name: str) -> Path | None:
    """Return a file of ``config/`` in the source tree or the installed share folder."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / 'config', parent / 'share/dualfocus_ros/config'):
            if (folder / name).is_file():
                return folder / name
    return None


def reclaim_shared_memory() -> None:
    """Remove shared memory of killed processes with the tool of Fast DDS, if installed.

    With the profile for large images, each killed process leaks 70 MB. Memory in use by running
    processes is kept.
    """
    tool = shutil.which('fastdds')
    if tool is not None:
        # A failure here must not keep the caller from stopping the other processes.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([tool, 'shm', 'clean'], capture_output=True, check=False, timeout=10.0)


class NodeProcess:
    """Child process that runs one node.

    :param name: executable, as for ``dualfocus run``; or a module with a dot in its name.
    :param arguments: arguments after ``--ros-args`` for an executable, all for a module.
    :param log: file for the output of the process.
    :param environment: variables added to those of this process; None removes one.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str | None]
    ) -> None:
        self.name = name
        self.log = log
        command = [sys.executable, '-m']
        command += [name] if '.' in name else ['dualfocus_ros.cli.main', 'run', name, '--ros-args']
        variables = {**os.environ, **environment, 'PYTHONUNBUFFERED': '1'}
        with log.open('wb') as file:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={key: value for key, value in variables.items() if value is not None},
                # Ctrl-C in the terminal reaches the demo only, which then stops the nodes.
                start_new_session=True,
                preexec_fn=_interrupt_when_parent_dies if sys.platform == 'linux' else None,
            )

    @property
    def status(self) -> int | None:
        """Exit status; None while the process runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        if self.status is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Wait for the process to exit; after ``seconds``, kill it and return False."""
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            reclaim_shared_memory()
            return False
        return True

    def output(self) -> str:
        """Return the output so far."""
        return self.log.read_text('utf-8', 'replace')

    def last_line(self) -> str:
        """Return the last line of output that is not empty."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return lines[-1].strip() if lines else '(none)'


class NodeGroup:
    """Group of nodes; leaving the context stops them all."""

    def __init__(self) -> None:
        self.nodes: list[NodeProcess] = []
        self.problems: list[str] = []
        self._stopped = False

    def __enter__(self) -> NodeGroup:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        logs: Path,
        environment: Mapping[str, str | None],
    ) -> None:
        """Start a node."""
        self.nodes.append(NodeProcess(name, arguments, logs / f'{name}.log', environment))

    def exited(self) -> list[NodeProcess]:
        """Return the nodes that are not running."""
        return [node for node in self.nodes if node.status is not None]

    def stop(self) -> dict[str, int | None]:
        """Interrupt all nodes, wait, and return their exit statuses; collect ``problems``."""
        running = [] if self._stopped else self.nodes
        self._stopped = True
        exited = [node for node in running if node.status is not None]
        for node in running:
            node.interrupt()
        deadline = time.monotonic() + STOP_SECONDS
        for node in running:
            problem = ''
            if node in exited:
                problem = f'exited early with status {node.status}'
            elif not node.wait(deadline - time.monotonic()):
                problem = f'did not exit within {STOP_SECONDS:.0f} s of SIGINT'
            elif node.status != 0:
                problem = f'exited with status {node.status}'
            if problem:
                self.problems.append(f'{node.name} {problem}')
            if 'Traceback (most recent call last)' in node.output():
                self.problems.append(f'{node.name} printed a traceback')
        return {node.name: node.status for node in self.nodes}


def _interrupt_when_parent_dies() -> None:
    """Make the kernel send SIGINT to this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
