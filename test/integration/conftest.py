# SPDX-License-Identifier: Apache-2.0
"""Starts our executables as processes, and a node of the test to talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import signal
import subprocess
import time
from typing import Any

import pytest

from dualfocus_ros.demo.node_processes import reclaim_shared_memory

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

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


class Listener:
    """Node of the test, with a separate executor."""

    def __init__(self) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('test_listener', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def collect(self, msg_type: type, topic: str, depth: int = 50) -> list[Any]:
        """Subscribe; returns the list that messages are appended to."""
        messages: list[Any] = []
        self.node.create_subscription(msg_type, topic, messages.append, depth)
        return messages

    def until(
        self, condition: Callable[[], bool], patience: float = _PATIENCE, what: str = ''
    ) -> None:
        """Spin until the condition holds; fails the test when it never does.

        A condition about the last message of a list does not hold while the list is empty.
        """
        end = time.monotonic() + patience

        def holds() -> bool:
            try:
                return condition()
            except IndexError:
                return False

        while not holds():
            if time.monotonic() > end:
                pytest.fail(f'waited {patience:g} s in vain {what}'.rstrip())
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Spin for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self.executor.spin_once(timeout_sec=min(0.05, left))

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Call a service and return its answer."""
        client = self.node.create_client(service_type, name)
        self.until(client.service_is_ready, what=f'for the service {name}')
        future = client.call_async(request)
        self.until(future.done, what=f'for the answer of {name}')
        return future.result()

    def close(self) -> None:
        """Leave ROS."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Return a node of the test."""
    node = Listener()
    yield node
    node.close()
