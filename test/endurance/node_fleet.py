# SPDX-License-Identifier: Apache-2.0
"""Camera, sweep and depth node as processes, and an observer that records sweeps and depths.

Expected depth of a sweep follows from the messages of the camera, received by the observer's
own subscriptions; actual depth from ``stack_info``, published with every depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import time
from typing import Any

from dualfocus_ros.demo.node_processes import (
    NodeProcess,
    isolated_environment,
    reclaim_shared_memory,
)
from dualfocus_ros.stamps import read_header_stamp, to_ns

# Small images, so that the network keeps up on two busy processor cores.
CAMERA = {
    'width': 160,
    'height': 120,
    'rate': 12.0,
    'threads': 1,
    'settling_time': 0.06,
    'scene': 'table',
}
SWEEP = {'count': 5, 'far_dioptres': 0.3}
DEPTH = {'threads': 1}
NODES = {'sim_camera_node': CAMERA, 'focus_sweep_node': SWEEP, 'depth_node': DEPTH}
_SETTLED = 1  # FocusState.SETTLED
_INCOMPLETE = 1 | 8  # StackInfo.FLAG_PLANE_MISSING, FLAG_PARTIAL
_QUEUE = 200


class Fleet:
    """The nodes as processes. Use as a context manager: leaving ends them all."""

    def __init__(self, logs: Path, **changes: dict[str, Any]) -> None:
        self._logs = logs
        self._parameters = {name: {**NODES[name], **changes.get(name, {})} for name in NODES}
        self.environment = isolated_environment()
        # The observer in this process is to be in the same domain.
        os.environ.update(self.environment)
        self.running: dict[str, NodeProcess] = {}
        self.lives = dict.fromkeys(NODES, 0)

    def __enter__(self) -> Fleet:
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in NODES:
            self.start(name)
        return self

    def __exit__(self, *exception: object) -> None:
        for node in self.running.values():
            node.interrupt()
        for node in self.running.values():
            node.wait(10.0)
        reclaim_shared_memory()

    def start(self, name: str) -> None:
        """Start a node that does not run."""
        arguments: list[str] = []
        for key, value in self._parameters[name].items():
            arguments += ['-p', f'{key}:={value}']
        log = self._logs / f'{name}_{self.lives[name]}.log'
        self.lives[name] += 1
        self.running[name] = NodeProcess(name, arguments, log, self.environment)

    def pid(self, name: str) -> int:
        """The process of a node."""
        return self.running[name].pid

    def dead(self) -> list[str]:
        """Return the nodes that have ended."""
        return [name for name, node in self.running.items() if node.status is not None]


@dataclass
class Sweep:
    """One sweep according to the messages of the camera, stamps in nanoseconds.

    :param settled: by the index of a plane, the stamps of its frames with the lens at rest.
    """

    number: int
    count: int
    first: int
    last: int
    settled: dict[int, list[int]] = field(default_factory=dict)
    depth: Any = None

    def takes(self, state: Any) -> bool:
        """Whether a focus state belongs to this sweep, if it is newer than all before."""
        if (state.sweep_id, state.plane_count) != (self.number, self.count):
            return False
        # A restarted sweep node counts from one again.
        newest = max(self.settled, key=lambda i: self.settled[i][-1], default=state.plane_index)
        return state.plane_index not in self.settled or state.plane_index == newest

    def whole(self, images: set[int], infos: set[int]) -> bool:
        """Whether every plane has a frame at rest of which all three messages were heard."""
        heard = images & infos
        return all(
            any(stamp in heard for stamp in self.settled.get(index, ()))
            for index in range(self.count)
        )


class Observer:
    """Node that subscribes to camera and depth node; spin it often."""

    def __init__(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image

        from dualfocus_ros.msg import FocusState, StackInfo

        rclpy.init(args=[])
        self._node = rclpy.create_node('endurance_observer')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.images: set[int] = set()
        self.infos: set[int] = set()
        self.states: list[Any] = []
        self.depths: list[tuple[float, Any]] = []  # when, by the steady clock, and what
        self.diagnostics: dict[str, dict[str, str]] = {}
        # What the depth node says of itself: when (ns), and how many images it has received.
        self.received: list[tuple[int, int]] = []
        qos = QoSProfile(depth=_QUEUE)  # reliable
        subscribe = self._node.create_subscription
        subscribe(
            Image,
            'image_raw',
            lambda data: self.images.add(read_header_stamp(data)),
            qos,
            raw=True,
        )
        subscribe(
            CameraInfo,
            'camera_info',
            lambda data: self.infos.add(read_header_stamp(data)),
            qos,
            raw=True,
        )
        # A new list drops older entries.
        subscribe(FocusState, 'focus_state', lambda msg: self.states.append(msg), qos)
        subscribe(
            StackInfo, 'stack_info', lambda msg: self.depths.append((time.monotonic(), msg)), qos
        )
        # stack_info alone would do; this is what users listen to.
        subscribe(Image, 'depth/image_rect', lambda data: None, qos, raw=True)
        subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos)

    def spin(self, seconds: float) -> None:
        """Receive messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Leave ROS."""
        import rclpy

        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown()

    def forget_before(self, stamp: int) -> None:
        """Drop older entries, so that memory does not grow with time."""
        self.images = {s for s in self.images if s >= stamp}
        self.infos = {s for s in self.infos if s >= stamp}
        self.states = [m for m in self.states if to_ns(m.header.stamp) >= stamp]
        self.received = [entry for entry in self.received if entry[0] >= stamp]

    def sweeps(self) -> list[Sweep]:
        """Return the sweeps in the order of their frames, each with its depth if one came."""
        found: list[Sweep] = []
        for state in sorted(self.states, key=lambda m: to_ns(m.header.stamp)):
            if state.plane_count == 0:
                continue
            stamp = to_ns(state.header.stamp)
            if not found or not found[-1].takes(state):
                found.append(Sweep(state.sweep_id, state.plane_count, stamp, stamp))
            sweep = found[-1]
            sweep.last = stamp
            if state.state == _SETTLED:
                sweep.settled.setdefault(state.plane_index, []).append(stamp)
        by_stamp = {
            stamp: sweep
            for sweep in found
            for stamps in sweep.settled.values()
            for stamp in stamps
        }
        for _, info in self.depths:
            stamps = {to_ns(stamp) for stamp in info.stamps}
            owners = {id(by_stamp[s]): by_stamp[s] for s in stamps if s in by_stamp}
            for sweep in owners.values():
                sweep.depth = info
        return found

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name.endswith('dualfocus: input'):
                counts = [int(v.value) for v in status.values if v.key == 'received']
                self.received += [(to_ns(message.header.stamp), count) for count in counts]
            self.diagnostics[status.name] = {
                'level': str(int.from_bytes(status.level, 'little')),
                'message': status.message,
                **{pair.key: pair.value for pair in status.values},
            }


@contextmanager
def observer() -> Iterator[Observer]:
    """Yield an observer; it leaves ROS at the end."""
    node = Observer()
    try:
        yield node
    finally:
        node.close()


def is_whole(info: Any) -> bool:
    """Whether a depth is that of a sweep that lost nothing."""
    return not info.flags & _INCOMPLETE


def wait_for_depths(watch: Observer, fleet: Fleet, count: int, patience: float) -> None:
    """Wait for the first depths.

    :raises SystemExit: when a process has ended or nothing comes.
    """
    end = time.monotonic() + patience
    while len(watch.depths) < count:
        watch.spin(0.2)
        dead = fleet.dead()
        if dead or time.monotonic() > end:
            name = dead[0] if dead else 'depth_node'
            raise SystemExit(f'no depth came; {name} said: {fleet.running[name].last_line()}')


@dataclass(frozen=True)
class Memory:
    """Memory of a process in bytes.

    :param own: private part.
    :param shared: used pages of shared memory, such as those of DDS, of any process.
    """

    own: int = 0
    shared: int = 0


def memory_bytes(pid: int) -> Memory:
    """Return the memory that a process occupies; nothing if it has ended."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text('ascii').splitlines()
    except OSError:
        return Memory()
    values = {line.split(':')[0]: line.split()[1] for line in lines if line.startswith('Rss')}
    kilobytes = {name: int(value) for name, value in values.items()}
    return Memory(1024 * kilobytes.get('RssAnon', 0), 1024 * kilobytes.get('RssShmem', 0))
