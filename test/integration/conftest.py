# SPDX-License-Identifier: Apache-2.0
"""Starts our executables as processes, and a node of the test to talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from dualfocus_ros.demo.node_processes import reclaim_shared_memory

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')


from ros_client import RosClient

if TYPE_CHECKING:
    from depth_node_harness import DepthNodeHarness

_PATIENCE = 60.0
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of several processes one more try, which the summary counts as a rerun.

    Discovery and delivery between processes depend on what else the machine does. A test that
    fails twice has failed.
    """
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope='module', autouse=True)
def no_memory_of_the_dead() -> Iterator[None]:
    """Give back what the programs that a module killed had of shared memory: up to gigabytes."""
    yield
    reclaim_shared_memory()


class Program:
    """One of our executables, running.

    :param name: as in ``ros2 run dualfocus_ros NAME``, or the path of a script.
    :param parameters: ROS parameters.
    :param remap: topic or node names (``__node``, ``__ns``) to others.
    :param log: file that takes stdout and stderr.
    """

    def __init__(
        self, name: str, parameters: dict[str, Any], remap: dict[str, str], log: Path
    ) -> None:
        from ament_index_python.packages import get_package_prefix

        # A path stays as it is.
        command = [str(Path(get_package_prefix('dualfocus_ros'), 'lib', 'dualfocus_ros', name))]
        command.append('--ros-args')
        for key, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ['-p', f'{key}:={text}']
        for old, new in remap.items():
            command += ['-r', f'{old}:={new}']
        self.name = name
        self.log = log
        self._file = log.open('wb')
        self.process = subprocess.Popen(
            command, stdout=self._file, stderr=subprocess.STDOUT, env=os.environ.copy()
        )

    @property
    def output(self) -> str:
        """Output so far."""
        return self.log.read_text(errors='replace')

    def handles_signals(self) -> bool:
        """Return whether it has installed a handler for SIGTERM."""
        status = Path(f'/proc/{self.process.pid}/status').read_text()
        caught = next(line for line in status.splitlines() if line.startswith('SigCgt'))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def stop(self, number: signal.Signals = signal.SIGINT, patience: float = 20.0) -> int:
        """Send a signal and return the exit code; kills what does not end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(patience)

    def wait(self, patience: float = _PATIENCE) -> int:
        """Return the exit code once it has ended."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f'{self.name} did not end within {patience} s:\n{self.output}')
        finally:
            self._file.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Return a function that starts one of our executables; all are stopped after the test."""
    yield from _starter(tmp_path)


@pytest.fixture(scope='module')
def start_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Program]]:
    """Return the same, for programs that all tests of a module talk to."""
    yield from _starter(tmp_path_factory.mktemp('programs'))


def _starter(folder: Path) -> Iterator[Callable[..., Program]]:
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix('dualfocus_ros')
    except PackageNotFoundError:
        pytest.skip('needs the built package: source its setup file')
    running: list[Program] = []

    def run(name: str, remap: dict[str, str] | None = None, /, **parameters: Any) -> Program:
        # Dots of parameter names are written as double underscores.
        named = {key.replace('__', '.'): value for key, value in parameters.items()}
        log = folder / f'{len(running)}_{Path(name).name}.log'
        program = Program(name, named, remap or {}, log)
        running.append(program)
        return program

    yield run
    for program in running:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@pytest.fixture
def start_command(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Return a function that starts ``dualfocus`` and returns the process and its log."""
    from ament_index_python.packages import get_package_prefix

    started: list[subprocess.Popen[bytes]] = []

    def run(*words: object) -> tuple[subprocess.Popen[bytes], Path]:
        program = f'{get_package_prefix("dualfocus_ros")}/lib/dualfocus_ros/dualfocus'
        log = tmp_path / f'{words[0]}{len(started)}.log'
        with log.open('wb') as file:
            process = subprocess.Popen(
                [program, *map(str, words)],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        started.append(process)
        return process, log

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def listener() -> Iterator[RosClient]:
    """Return a node of the test."""
    client = RosClient()
    yield client
    client.close()


@pytest.fixture
def make_harness() -> Iterator[Callable[..., DepthNodeHarness]]:
    """Return a function that makes a depth node with its peer; all are closed after the test."""
    from depth_node_harness import DepthNodeHarness

    made: list[DepthNodeHarness] = []

    def make(**arguments: Any) -> DepthNodeHarness:
        made.append(DepthNodeHarness(**arguments))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def connect(make_harness: Callable[..., DepthNodeHarness]) -> Callable[..., DepthNodeHarness]:
    """Return a function that makes a depth node, connected to a camera and subscribers.

    Arguments are those of ``DepthNodeHarness.connect`` and parameters of the node.
    """

    def make(*outputs: str, **arguments: Any) -> DepthNodeHarness:
        camera = {n: arguments.pop(n) for n in ('inputs', 'reliability') if n in arguments}
        return make_harness(**arguments).connect(*outputs, **camera)

    return make


@pytest.fixture
def harness(connect: Callable[..., DepthNodeHarness]) -> DepthNodeHarness:
    """Return a depth node with a camera and a subscriber of depth, connected."""
    return connect('depth/image_rect')
