# SPDX-License-Identifier: Apache-2.0
"""Child processes of nodes: DDS isolation, shutdown, shared memory."""

import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dualfocus_ros.demo.node_processes import NodeGroup, NodeProcess, isolated_environment


def test_isolation_keeps_domain_and_profile_of_the_user(monkeypatch):
    pytest.importorskip('ament_index_python', reason='needs ROS 2: source its setup file')
    monkeypatch.delenv('ROS_DOMAIN_ID', raising=False)
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    variables = isolated_environment()
    assert 1 <= int(variables['ROS_DOMAIN_ID']) <= 101
    assert Path(variables['FASTDDS_DEFAULT_PROFILES_FILE']).is_file()
    monkeypatch.setenv('ROS_DOMAIN_ID', '55')
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/my/profile.xml')
    variables = isolated_environment()
    assert variables['ROS_DOMAIN_ID'] == '55'
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in variables


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nodes_are_stopped_and_failures_reported(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    environment = dict(os.environ)
    with NodeGroup() as group:
        group.start('focus_sweep_node', [], tmp_path, environment)
        wait_until(lambda: 'sweep' in group.nodes[0].output())
        assert group.stop() == {'focus_sweep_node': 0}
        assert group.problems == []
    with NodeGroup() as group:
        group.start('focus_sweep_node', ['-p', 'mode:=nonsense'], tmp_path, environment)
        wait_until(lambda: group.exited())
        assert 'nonsense' in group.nodes[0].last_line()
        group.stop()
        assert group.problems == ['focus_sweep_node exited early with status 1']


@pytest.mark.skipif(sys.platform != 'linux', reason='prctl is a Linux call')
def test_nodes_exit_when_their_parent_is_killed(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    code = (
        'import os, pathlib, sys, time\n'
        'from dualfocus_ros.demo.node_processes import NodeProcess\n'
        f'logs = pathlib.Path({str(tmp_path)!r})\n'
        'node = NodeProcess("focus_sweep_node", [], logs / "log", {})\n'
        'print(node.pid, flush=True)\n'
        'time.sleep(60)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: 'sweep' in (tmp_path / 'log').read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not Path(f'/proc/{child}').exists() or is_zombie(child))


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /dev/shm')
def test_only_shared_memory_of_killed_nodes_is_removed(tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    if shutil.which('fastdds') is None:
        pytest.skip('needs the fastdds tool')
    if os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp':
        pytest.skip('needs Fast DDS')

    def segments_of(node: NodeProcess) -> list[Path]:
        """Return the shared memory segments of a node and their lock files."""
        # Files that it holds locked; it may have segments of its peers open as well.
        links = {
            file.readlink(): Path(f'/proc/{node.pid}/fdinfo/{file.name}').read_text()
            for file in Path(f'/proc/{node.pid}/fd').iterdir()
        }
        locks = [
            link
            for link, text in links.items()
            if re.fullmatch('fastrtps_[0-9a-f]{16}_el', link.name) and f' {node.pid} ' in text
        ]
        return [*locks, *(lock.with_name(lock.name.removesuffix('_el')) for lock in locks)]

    names = ['killed', 'running']
    nodes = [NodeProcess('focus_sweep_node', [], tmp_path / name, {}) for name in names]
    try:
        for node in nodes:
            wait_until(lambda node=node: 'sweep' in node.output())
        killed, running = map(segments_of, nodes)
        assert killed and running and all(file.exists() for file in [*killed, *running])
        assert not nodes[0].wait(0.0)
        assert not any(file.exists() for file in killed)
        assert all(file.exists() for file in running)
    finally:
        for node in nodes:
            node.interrupt()
            node.wait(20.0)


def is_zombie(pid: int) -> bool:
    try:
        return ') Z ' in Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return True
