# SPDX-License-Identifier: Apache-2.0
"""Demo run: start the nodes, record, compare depth with ground truth, write the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import json
import logging
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.demo.collector import TRUTH, DemoCollector
from dualfocus_ros.demo.demo_report import compute_metrics, write_pictures
from dualfocus_ros.demo.node_processes import NodeGroup, isolated_environment
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.simulation.scenes import SCENES
from dualfocus_ros.topics import (
    CAMERA_INFO,
    DIAGNOSTIC_ARRAY,
    DIAGNOSTICS,
    FOCUS_COMMAND,
    FOCUS_STATE,
    IMAGE,
    IMAGE_RAW,
    RECORDED_OUTPUTS,
)

logger = logging.getLogger(__name__)

MAX_ABS_REL = 0.10
METRICS_FILE = 'metrics.json'
_DISCOVERY_PERIOD = 0.2  # s


@dataclass(frozen=True)
class DemoSettings:
    """Settings of a demo run.

    :param output: folder for the results.
    :param scene: name in :data:`~dualfocus_ros.simulation.scenes.SCENES`.
    :param seconds: duration of the measurement after the first depth.
    :param rate: camera images per second.
    :param planes: planes per sweep.
    :param start_timeout: seconds to wait for the first depth.
    """

    output: Path
    scene: str = 'table'
    seconds: float = 20.0
    width: int = 640
    height: int = 480
    rate: float = 10.0
    planes: int = 8
    model: str = 'auto'
    device: str = 'auto'
    start_timeout: float = 120.0

    def depth_parameters(self) -> dict[str, Any]:
        """Return the parameters of the depth node."""
        return {
            'model': self.model,
            'device': self.device,
            'breathing.model': 'thin_lens',
            **self._lens_parameters(),
        }

    def node_parameters(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of each node by executable name."""
        far, near = SCENES[self.scene].focus_range
        return {
            'sim_camera_node': {
                'scene': self.scene,
                'width': self.width,
                'height': self.height,
                'rate': self.rate,
                **self._lens_parameters(),
            },
            'depth_node': self.depth_parameters(),
            'focus_sweep_node': {
                'mode': 'continuous',
                'near_dioptres': near,
                'far_dioptres': far,
                'count': self.planes,
            },
        }

    def _lens_parameters(self) -> dict[str, float]:
        lens = simulated_lens(self.width)
        names = ('focal_length', 'f_number', 'pixel_pitch')
        return {f'lens.{name}': getattr(lens, name) for name in names}


def parameter_arguments(parameters: dict[str, Any]) -> list[str]:
    """Return ROS arguments that set parameters: ``-p NAME:=VALUE`` each."""
    return [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]


def run_demo(settings: DemoSettings) -> tuple[dict[str, Any], list[str]]:
    """Start the nodes, record, measure and replace the output folder by the results.

    :returns: the metrics, and the problems found; no problems mean depth within the error limit.
    :raises CommandError: if no depth arrived, or the output folder holds other files.
    """
    output = settings.output
    if output.exists() and not (output / METRICS_FILE).is_file() and any(output.iterdir()):
        raise CommandError(
            f'{output} was not made by this command: move it away or choose another --output'
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f'.{output.name}-', dir=output.parent, ignore_cleanup_errors=True
    ) as scratch:
        partial = Path(scratch) / 'new'
        partial.mkdir()
        metrics, problems = _measure_nodes(settings, partial)
        if (partial / 'panel.png').exists():
            problems += _write_page(settings, partial, metrics['depths'])
        write_text(partial / METRICS_FILE, json.dumps(metrics, indent=2) + '\n')
        if output.exists():
            output.rename(Path(scratch) / 'old')
        partial.rename(output)
    return metrics, problems


def _measure_nodes(settings: DemoSettings, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the nodes; write bag, logs and pictures to a folder; return metrics and problems."""
    logs = folder / 'logs'
    logs.mkdir()
    environment = isolated_environment()
    os.environ.update(environment)  # before rclpy reads them
    start = time.monotonic()
    with _interrupts() as interrupt, NodeGroup() as group:
        for name, parameters in settings.node_parameters().items():
            group.start(name, parameter_arguments(parameters), logs, environment)
        logger.info(
            'started %s (DDS domain %s)',
            ', '.join(node.name for node in group.nodes),
            environment['ROS_DOMAIN_ID'],
        )
        with BagWriter(folder / 'bag') as bag:
            collector = DemoCollector(bag)
            with _subscriptions(collector, bag) as spin:
                _wait_for_depth(settings, collector, group, spin, interrupt, logs)
                first_depth = time.monotonic() - start
                logger.info('first depth after %.1f s', first_depth)
                seconds = _measure(settings.seconds, collector, group, spin, interrupt)
        statuses = group.stop()
        collector.finish()
    metrics = compute_metrics(collector, seconds)
    metrics.update(
        scene=settings.scene,
        width=settings.width,
        height=settings.height,
        first_depth_s=round(first_depth, 2),
        messages=bag.counts,
        exit_status=statuses,
    )
    problems = list(group.problems)
    example = collector.example()
    if example is None:
        problems.append(
            'no depth image arrived with planes, ground truth and all outputs: no panel'
        )
    else:
        write_pictures(folder, example, metrics, settings.scene)
    if metrics['abs_rel'] is None:
        problems.append('no depth image could be compared with the ground truth of its stamp')
    elif metrics['abs_rel'] > MAX_ABS_REL:
        problems.append(f'depth error too large: AbsRel {metrics["abs_rel"]:.3f} > {MAX_ABS_REL}')
    return metrics, problems


def _write_page(settings: DemoSettings, folder: Path, depths: int) -> list[str]:
    """Write view.html by running ``dualfocus view``; return the problems."""
    command = [
        *(sys.executable, '-m', 'dualfocus_ros.cli.main', 'view', str(folder / 'bag')),
        *('-o', str(folder / 'view.html'), '--title', f'dualfocus demo: {settings.scene}'),
        # The first sweep may have started before all subscriptions were connected.
        *('--sweeps', '2', '--first', str(int(depths > 2))),
        *parameter_arguments(settings.depth_parameters()),
    ]
    logger.info('writing view.html ...')
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    lines = done.stderr.strip().splitlines() or [f'status {done.returncode}']
    return [f'view.html could not be written: {lines[-1]}']


@contextmanager
def _subscriptions(collector: DemoCollector, bag: BagWriter) -> Iterator[Callable[[], None]]:
    """Subscribe to all topics; yield a function that spins for at most 0.1 s."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    inputs = (IMAGE_RAW, CAMERA_INFO, FOCUS_STATE, FOCUS_COMMAND)
    types = {topic.name: topic.message_type for topic in inputs}
    types |= {topic.name: topic.message_type for topic in RECORDED_OUTPUTS}
    recorded = {f'/{name}': import_message_class(kind) for name, kind in types.items()}
    recorded[DIAGNOSTICS] = import_message_class(DIAGNOSTIC_ARRAY)
    # The demo handles Ctrl-C itself: the context must outlive it.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node('dualfocus_demo')
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        recorders = [
            TopicRecorder(node, recorded, bag, collector),
            TopicRecorder(node, {TRUTH: import_message_class(IMAGE)}, None, collector),
        ]
        last_discovery = -_DISCOVERY_PERIOD

        def spin() -> None:
            nonlocal last_discovery
            if time.monotonic() - last_discovery > _DISCOVERY_PERIOD:
                for recorder in recorders:
                    recorder.discover()
                last_discovery = time.monotonic()
            executor.spin_once(timeout_sec=0.1)

        yield spin
        for recorder in recorders:
            recorder.close()
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _wait_for_depth(
    settings: DemoSettings,
    collector: DemoCollector,
    group: NodeGroup,
    spin: Callable[[], None],
    interrupt: threading.Event,
    logs: Path,
) -> None:
    """Wait for the first depth of a complete sweep.

    :raises CommandError: if a node exits before it, or after ``start_timeout``.
    """
    deadline = time.monotonic() + settings.start_timeout
    while not collector.start_measuring():
        if interrupt.is_set():
            raise KeyboardInterrupt
        node, problem = group.nodes[1], ''
        if group.exited():
            node = group.exited()[0]
            problem = f'{node.name} exited with status {node.status} before the first depth'
        elif time.monotonic() > deadline:
            problem = (
                f'no depth of a complete sweep within {settings.start_timeout:.0f} s: '
                f'{collector.images} images, {len(collector.infos)} stacks received'
            )
        if problem:
            saved = tempfile.mkdtemp(prefix='dualfocus-demo-')  # the output folder is temporary
            shutil.copytree(logs, saved, dirs_exist_ok=True)
            raise CommandError(
                f'{problem}; last output of {node.name}: {node.last_line()} '
                f'(all logs are in {saved})'
            )
        spin()


def _measure(
    seconds: float,
    collector: DemoCollector,
    group: NodeGroup,
    spin: Callable[[], None],
    interrupt: threading.Event,
) -> float:
    """Collect for some seconds, fewer after Ctrl-C or the exit of a node; return the duration."""
    start = time.monotonic()
    elapsed = 0.0
    quiet = True if not logger.isEnabledFor(logging.INFO) else None
    form = '{desc}: {n:.0f}/{total:.0f} s |{bar}| {postfix}'
    with tqdm(total=seconds, desc='measuring', bar_format=form, leave=False, disable=quiet) as bar:
        while elapsed < seconds and not interrupt.is_set() and not group.exited():
            spin()
            elapsed = time.monotonic() - start
            bar.update(min(elapsed, seconds) - bar.n)
            bar.set_postfix_str(f'{len(collector.depths)} depth images')
    return elapsed


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Within the context, SIGINT and SIGTERM set an event and the run ends in order."""
    event = threading.Event()
    before = {n: signal.signal(n, lambda *_: event.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
