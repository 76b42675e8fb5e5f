# SPDX-License-Identifier: Apache-2.0
"""One run of the demo, from starting the nodes to the figures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
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

from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.demo.collector import TRUTH, DemoCollector
from dualfocus_ros.demo.node_processes import NodeGroup, isolated_environment
from dualfocus_ros.demo.demo_report import compute_metrics, format_summary, write_pictures
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.simulation.scenes import SCENES
from dualfocus_ros.cli.console import echo

from dualfocus_ros.topics import (
    CAMERA_INFO,
    DIAGNOSTIC_ARRAY,
    DIAGNOSTICS,
    FOCUS_COMMAND,
    FOCUS_STATE,
    IMAGE_RAW,
    RECORDED_OUTPUTS,
)

logger = logging.getLogger(__name__)

MAX_ABS_REL = 0.10
METRICS_FILE = 'metrics.json'
# A lens like that of a small machine-vision camera; the pitch makes its field of view 25 degrees.
FOCAL_LENGTH, F_NUMBER, SENSOR_WIDTH = 0.016, 1.4, 0.0072


class _InterruptFlag:
    """Ctrl-C or SIGTERM: remembered, and looked at where the run can end in order."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True


def run(arguments: argparse.Namespace) -> int:
    """Start the nodes, record, measure, write; return 0 if the depth is right.

    :raises CommandError: if no depth came out.
    """
    output: Path = arguments.output
    if output.exists() and not (output / METRICS_FILE).is_file() and any(output.iterdir()):
        raise CommandError(
            f'{output} was not made by this command: move it away or choose another --output'
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{output.name}-', dir=output.parent))
    partial.chmod(0o755)
    try:
        measured, problems = _run(arguments, partial)
        if (partial / 'panel.png').exists():
            problems += _write_page(arguments, partial, measured['depths'])
        write_text(partial / METRICS_FILE, json.dumps(measured, indent=2) + '\n')
        _replace(output, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if arguments.json:
        echo(json.dumps(measured, indent=2))
    else:
        echo(format_summary(measured, arguments.scene))
        echo(f'written to      {output}: bag, panel.png, view.html, cloud.ply, metrics.json, logs')
    if problems:
        raise CommandError('; '.join(problems))
    return 0


def _run(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    logs = folder / 'logs'
    logs.mkdir()
    environment = isolated_environment()
    os.environ.update(environment)  # before rclpy reads them
    began = time.monotonic()
    with _interrupts() as interrupts, NodeGroup() as processes:
        for name, ros_arguments in _nodes(arguments).items():
            processes.start(name, ros_arguments, logs, environment)
        logger.info(
            'started %s (DDS domain %s)',
            ', '.join(node.name for node in processes.nodes),
            environment['ROS_DOMAIN_ID'],
        )
        with BagWriter(folder / 'bag') as bag:
            collector = DemoCollector(bag)
            with _listening(collector, bag) as listen:
                _until_first_depth(arguments, collector, processes, listen, interrupts, logs)
                waited = time.monotonic() - began
                logger.info('first depth after %.1f s', waited)
                seconds = _measure(arguments, collector, processes, listen, interrupts)
        statuses = processes.stop()
        collector.finish()
    measured = compute_metrics(collector, seconds)
    measured.update(
        scene=arguments.scene,
        width=arguments.width,
        height=arguments.height,
        first_depth_s=round(waited, 2),
        messages=bag.counts,
        exit_status=statuses,
    )
    problems = list(processes.problems)
    example = collector.example()
    if example is None:
        problems.append('no depth image came with all that belongs to it: there is no panel')
    else:
        write_pictures(folder, example, measured, arguments.scene)
    if measured['abs_rel'] is None:
        problems.append('no depth image could be compared with the truth of its stamp')
    elif measured['abs_rel'] > MAX_ABS_REL:
        problems.append(f'the depth is wrong: AbsRel {measured["abs_rel"]:.3f} > {MAX_ABS_REL}')
    return measured, problems


def _write_page(arguments: argparse.Namespace, folder: Path, depths: int) -> list[str]:
    """Write view.html, with a process of its own as every run of ``dualfocus view``.

    :returns: what went wrong.
    """
    command = [
        sys.executable, '-m', 'dualfocus_ros.cli.main', 'view', str(folder / 'bag'),
        '-o', str(folder / 'view.html'), '--title', f'dualfocus demo: {arguments.scene}',
        # The first sweep may have begun before everybody listened.
        '--sweeps', '2', '--first', str(int(depths > 2)), *_words(_depth_node(arguments)),
    ]
    logger.info('writing the page to look at ...')
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    said = done.stderr.strip().splitlines() or [f'status {done.returncode}']
    return [f'view.html could not be written: {said[-1]}']


def _words(parameters: dict[str, Any]) -> list[str]:
    return [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]


def _lens(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        'lens.focal_length': FOCAL_LENGTH,
        'lens.f_number': F_NUMBER,
        'lens.pixel_pitch': SENSOR_WIDTH / arguments.width,
    }


def _depth_node(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        'model': arguments.model,
        'device': arguments.device,
        'breathing.model': 'thin_lens',
        **_lens(arguments),
    }


def _nodes(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the nodes to start, each with its ROS arguments."""
    camera = {
        'scene': arguments.scene,
        'width': arguments.width,
        'height': arguments.height,
        'rate': arguments.rate,
        **_lens(arguments),
    }
    far, near = SCENES[arguments.scene].focus_range
    sweep = {
        'mode': 'continuous',
        'near_dioptres': near,
        'far_dioptres': far,
        'count': arguments.planes,
    }
    nodes = {
        'sim_camera_node': camera,
        'depth_node': _depth_node(arguments),
        'focus_sweep_node': sweep,
    }
    return {name: _words(parameters) for name, parameters in nodes.items()}


def _recorded_topics() -> list[tuple[str, str]]:
    """Return names and types of the topics that go into the bag."""
    inputs = (IMAGE_RAW, CAMERA_INFO, FOCUS_STATE, FOCUS_COMMAND)
    return [
        *((topic.name, topic.message_type) for topic in inputs),
        *((topic.name, topic.message_type) for topic in RECORDED_OUTPUTS),
        (DIAGNOSTICS.lstrip('/'), DIAGNOSTIC_ARRAY),
    ]


@contextmanager
def _listening(collector: DemoCollector, bag: BagWriter) -> Iterator[Any]:
    """Subscribe to all topics; yields a function that takes what comes for a moment."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image

    recorded = {f'/{name}': import_message_class(kind) for name, kind in _recorded_topics()}
    # The demo handles Ctrl-C itself: the context must outlive it.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node('dualfocus_demo')
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        recorders = [
            TopicRecorder(node, recorded, bag, collector),
            TopicRecorder(node, {TRUTH: Image}, None, collector),
        ]
        looked = -1.0

        def listen(seconds: float) -> None:
            nonlocal looked
            if time.monotonic() - looked > 0.2:
                for recorder in recorders:
                    recorder.discover()
                looked = time.monotonic()
            executor.spin_once(timeout_sec=seconds)

        yield listen
        for recorder in recorders:
            recorder.close()
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _until_first_depth(
    arguments: argparse.Namespace,
    collector: DemoCollector,
    processes: NodeGroup,
    listen: Any,
    interrupts: _InterruptFlag,
    logs: Path,
) -> None:
    deadline = time.monotonic() + arguments.start_timeout
    while not collector.begin():
        if interrupts.seen:
            raise KeyboardInterrupt
        dead = processes.dead()
        if dead:
            raise CommandError(
                f'{dead[0].name} ended with status {dead[0].status} before the first depth; it '
                f'said: {dead[0].last_words()} ({_keep(logs)})'
            )
        if time.monotonic() > deadline:
            counts = f'{collector.images} images, {len(collector.infos)} stacks received'
            raise CommandError(
                f'no depth of a whole sweep within {arguments.start_timeout:.0f} s: {counts}; the '
                f'depth node said: {processes.nodes[1].last_words()} ({_keep(logs)})'
            )
        listen(0.1)


def _keep(logs: Path) -> str:
    """Copy the logs to where they outlive a failed run; return where, in words."""
    kept = Path(tempfile.mkdtemp(prefix='dualfocus-demo-'))
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return f'all logs are in {kept}'


def _measure(
    arguments: argparse.Namespace,
    collector: DemoCollector,
    processes: NodeGroup,
    listen: Any,
    interrupts: _InterruptFlag,
) -> float:
    """Collect for the time asked for; return the seconds that it took."""
    began = time.monotonic()
    elapsed = 0.0
    quiet = True if not logger.isEnabledFor(logging.INFO) else None
    form = '{desc}: {n:.0f}/{total:.0f} s |{bar}| {postfix}'
    with tqdm(
        total=arguments.seconds, desc='measuring', bar_format=form, leave=False, disable=quiet
    ) as bar:
        while elapsed < arguments.seconds and not interrupts.seen and not processes.dead():
            listen(0.1)
            elapsed = time.monotonic() - began
            bar.update(min(elapsed, arguments.seconds) - bar.n)
            bar.set_postfix_str(f'{len(collector.depths)} depth images')
    return elapsed


@contextmanager
def _interrupts() -> Iterator[_InterruptFlag]:
    interrupts = _InterruptFlag()
    before = {n: signal.signal(n, interrupts) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _replace(output: Path, partial: Path) -> None:
    """Put the finished folder in the place of the old one."""
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(prefix=f'.{output.name}-old-', dir=output.parent))
        os.replace(output, old / 'old')
    os.replace(partial, output)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
