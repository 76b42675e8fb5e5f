# SPDX-License-Identifier: Apache-2.0
"""Demo run: start the nodes, record, compare depth with ground truth, write the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import logging
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from types import FrameType
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.demo.collector import TRUTH, DemoCollector
from dualfocus_ros.demo.demo_report import compute_metrics, write_pictures
from dualfocus_ros.demo.demo_settings import DemoSettings, parameter_arguments
from dualfocus_ros.demo.node_processes import NodeGroup, isolated_environment
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.io.atomic_files import write_text
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


class _InterruptFlag:
    """Signal handler that remembers Ctrl-C or SIGTERM until the run can end in order."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True


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
    partial = Path(tempfile.mkdtemp(prefix=f'.{output.name}-', dir=output.parent))
    partial.chmod(0o755)
    try:
        metrics, problems = _measure_nodes(settings, partial)
        if (partial / 'panel.png').exists():
            problems += _write_page(settings, partial, metrics['depths'])
        write_text(partial / METRICS_FILE, json.dumps(metrics, indent=2) + '\n')
        _replace_folder(output, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return metrics, problems


def _measure_nodes(settings: DemoSettings, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the nodes; write bag, logs and pictures to a folder; return metrics and problems."""
    logs = folder / 'logs'
    logs.mkdir()
    environment = isolated_environment()
    os.environ.update(environment)  # before rclpy reads them
    start = time.monotonic()
    with _interrupt_flag() as interrupt, NodeGroup() as group:
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


def _recorded_topics() -> dict[str, str]:
    """Return the message types of the recorded topics by absolute name."""
    inputs = (IMAGE_RAW, CAMERA_INFO, FOCUS_STATE, FOCUS_COMMAND)
    return {
        **{f'/{topic.name}': topic.message_type for topic in inputs},
        **{f'/{topic.name}': topic.message_type for topic in RECORDED_OUTPUTS},
        DIAGNOSTICS: DIAGNOSTIC_ARRAY,
    }


@contextmanager
def _subscriptions(collector: DemoCollector, bag: BagWriter) -> Iterator[Callable[[float], None]]:
    """Subscribe to all topics; yield a function that spins for some seconds at most."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    recorded = {name: import_message_class(kind) for name, kind in _recorded_topics().items()}
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

        def spin(seconds: float) -> None:
            nonlocal last_discovery
            if time.monotonic() - last_discovery > _DISCOVERY_PERIOD:
                for recorder in recorders:
                    recorder.discover()
                last_discovery = time.monotonic()
            executor.spin_once(timeout_sec=seconds)

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
    spin: Callable[[float], None],
    interrupt: _InterruptFlag,
    logs: Path,
) -> None:
    """Wait for the first depth of a complete sweep.

    :raises CommandError: if a node exits before it, or after ``start_timeout``.
    """
    deadline = time.monotonic() + settings.start_timeout
    while not collector.start_measuring():
        if interrupt.is_set:
            raise KeyboardInterrupt
        exited = group.exited()
        if exited:
            raise CommandError(
                f'{exited[0].name} exited with status {exited[0].status} before the first depth; '
                f'last output: {exited[0].last_line()} ({_save_logs(logs)})'
            )
        if time.monotonic() > deadline:
            counts = f'{collector.images} images, {len(collector.infos)} stacks received'
            raise CommandError(
                f'no depth of a complete sweep within {settings.start_timeout:.0f} s: {counts}; '
                f'last output of the depth node: {group.nodes[1].last_line()} '
                f'({_save_logs(logs)})'
            )
        spin(0.1)


def _save_logs(logs: Path) -> str:
    """Copy the logs out of the temporary output folder; return a text with the place."""
    saved = Path(tempfile.mkdtemp(prefix='dualfocus-demo-'))
    shutil.copytree(logs, saved, dirs_exist_ok=True)
    return f'all logs are in {saved}'


def _measure(
    seconds: float,
    collector: DemoCollector,
    group: NodeGroup,
    spin: Callable[[float], None],
    interrupt: _InterruptFlag,
) -> float:
    """Collect for some seconds, fewer after Ctrl-C or the exit of a node; return the duration."""
    start = time.monotonic()
    elapsed = 0.0
    quiet = True if not logger.isEnabledFor(logging.INFO) else None
    form = '{desc}: {n:.0f}/{total:.0f} s |{bar}| {postfix}'
    with tqdm(total=seconds, desc='measuring', bar_format=form, leave=False, disable=quiet) as bar:
        while elapsed < seconds and not interrupt.is_set and not group.exited():
            spin(0.1)
            elapsed = time.monotonic() - start
            bar.update(min(elapsed, seconds) - bar.n)
            bar.set_postfix_str(f'{len(collector.depths)} depth images')
    return elapsed


@contextmanager
def _interrupt_flag() -> Iterator[_InterruptFlag]:
    """Handle SIGINT and SIGTERM by a flag within the context."""
    flag = _InterruptFlag()
    before = {n: signal.signal(n, flag) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _replace_folder(output: Path, partial: Path) -> None:
    """Move the finished folder to the place of the old one."""
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(prefix=f'.{output.name}-old-', dir=output.parent))
        os.replace(output, old / 'old')
    os.replace(partial, output)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
