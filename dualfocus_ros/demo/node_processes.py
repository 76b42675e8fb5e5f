# SPDX-License-Identifier: Apache-2.0
"""Nodes as separate processes, apart from all other ROS traffic, and their orderly end."""

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
from types import TracebackType

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
PROFILE = 'fastdds_large_images.xml'


def isolated_environment() -> dict[str, str]:
    """Return variables for DDS on this machine only, on a domain that is unlikely to be in use.

    A domain and a DDS profile that the user chose are kept.
    """
    # 0 is everyone's default; above 101 the ports of Linux's ephemeral range are used.
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
    """Return a file of ``config/``, from the source tree or the installed share folder."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / 'config', parent / 'share/dualfocus_ros/config'):
            if (folder / name).is_file():
                return folder / name
    return None


def reclaim_shared_memory() -> None:
    """Remove what killed processes left in shared memory, where Fast DDS's own tool is at hand.

    With the profile for large images each leaves 70 MB of memory, which nobody else gives back. A
    process that ends in order leaves nothing, and what a living one uses is not touched.
    """
    tool = shutil.which('fastdds')
    if tool is not None:
        # Other processes have yet to be ended after this: what goes wrong here must not stop that.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([tool, 'shm', 'clean'], capture_output=True, check=False, timeout=10.0)


class NodeProcess:
    """One node in a process of its own.

    :param name: the node's executable, as for ``dualfocus run``, or with a dot in it a module
        that runs one.
    :param arguments: of a node what follows ``--ros-args``, of a module what follows its name.
    :param log: file that gets what the process prints.
    :param environment: what to add to this process's variables; None removes one.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str | None],
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
                # Ctrl-C in the terminal is for the demo, which then stops the nodes in order.
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == 'linux' else None,
            )

    @property
    def status(self) -> int | None:
        """Exit status, or None while the process runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def interrupt(self) -> None:
        """Ask the process to end, as Ctrl-C does."""
        if self.status is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process; kill it after this time and return False."""
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            reclaim_shared_memory()
            return False
        return True

    def printed(self) -> str:
        """Return what the process has printed."""
        return self.log.read_text('utf-8', 'replace')

    def last_words(self) -> str:
        """Return the last line that is not empty."""
        lines = [line for line in self.printed().splitlines() if line.strip()]
        return lines[-1].strip() if lines else 'nothing'


class NodeGroup:
    """A group of nodes; leaving the context ends them all, whatever happened."""

    def __init__(self) -> None:
        self.nodes: list[NodeProcess] = []
        self.problems: list[str] = []
        self._stopped = False

    def __enter__(self) -> NodeGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        logs: Path,
        environment: Mapping[str, str | None],
    ) -> None:
        """Start one more node."""
        self.nodes.append(NodeProcess(name, arguments, logs / f'{name}.log', environment))

    def dead(self) -> list[NodeProcess]:
        """Return the nodes that ended by themselves."""
        return [node for node in self.nodes if node.status is not None]

    def stop(self) -> dict[str, int | None]:
        """Interrupt all, wait, and return the exit statuses; note in ``problems`` what is wrong."""
        if not self._stopped:
            self._stopped = True
            for node in self.dead():
                self.problems.append(f'{node.name} ended by itself with status {node.status}')
            ended_by_themselves = set(self.dead())
            for node in self.nodes:
                node.interrupt()
            deadline = time.monotonic() + STOP_SECONDS
            for node in self.nodes:
                if not node.wait(deadline - time.monotonic()):
                    self.problems.append(
                        f'{node.name} did not end within {STOP_SECONDS:.0f} s of Ctrl-C'
                    )
                elif node.status != 0 and node not in ended_by_themselves:
                    self.problems.append(f'{node.name} ended with status {node.status}')
                if 'Traceback (most recent call last)' in node.printed():
                    self.problems.append(f'{node.name} printed a traceback')
        return {node.name: node.status for node in self.nodes}


def _end_with_parent() -> None:
    """Have the kernel interrupt this process when its parent dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
