# SPDX-License-Identifier: Apache-2.0
"""Latency of the depth node and of image transport over DDS, between processes.

A player publishes images, the depth node computes depth, a receiver logs its arrival; all run in
an isolated DDS domain. Player and receiver alone measure the transport, with the default settings
of Fast DDS and with the profile of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import json
from pathlib import Path
import tempfile
import time
from typing import Any

from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig
from dualfocus_ros.benchmark.benchmark_stacks import RenderedSweep, StackShape, write_stack
from dualfocus_ros.benchmark.ratios import base_cell
from dualfocus_ros.benchmark.timing import percentiles
from dualfocus_ros.demo.node_processes import PROFILE, NodeGroup, find_config, isolated_environment
from dualfocus_ros.evaluation.progress_reporting import NoProgress, Progress
from dualfocus_ros.exceptions import CommandError

PLAYER = 'dualfocus_ros.benchmark.stack_player'
RECEIVER = 'dualfocus_ros.benchmark.latency_receiver'
DEPTH_TOPIC, IMAGE_TOPIC = 'depth/image_rect', 'image_raw'
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Frame period over the computing time of the node, so that it keeps up.
SLACK = 1.8
FASTEST_CAMERA = 30.0
START_SECONDS = 120.0
# Ignored while the node warms up and DDS discovery completes.
WARMUP_MESSAGES = 2
TRANSPORT_RATE = 30.0
TRANSPORT_SIZE = (640, 480)


@dataclass(frozen=True)
class NodeBenchmarkConfig:
    """Amount of measurements over DDS.

    :param depths: depth images per mode.
    :param images: images per transport run.
    :param rounds: transport runs per profile.
    :param modes: modes of the depth node.
    :param subscribers: reliabilities of the subscription in transport runs.
    """

    depths: int = 20
    images: int = 120
    rounds: int = 2
    modes: tuple[str, ...] = ('sweep', 'sliding')
    subscribers: tuple[str, ...] = ('reliable', 'best_effort')


QUICK = NodeBenchmarkConfig(depths=4, images=20, rounds=1)


def measure_node(
    config: BenchmarkConfig,
    report: Mapping[str, Any],
    progress: Progress | None = None,
    amount: NodeBenchmarkConfig = NodeBenchmarkConfig(),
    stacks: RenderedSweep | None = None,
) -> dict[str, Any]:
    """Measure the modes of the depth node and the transport; return results for JSON.

    :param report: of the same run; the time of the default model sets the frame rate.
    :raises CommandError: if a process ends early or no depth arrives in time.
    """
    progress = NoProgress() if progress is None else progress
    base = config.base
    runs = len(amount.modes) + 2 * len(amount.subscribers) * amount.rounds
    progress.total = (progress.total or 0) + runs
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as name:
        folder = Path(name)
        stack, picture = folder / 'stack.npz', folder / 'picture.npz'
        stacks = stacks or RenderedSweep(base.planes)
        write_stack(stack, stacks.stack(base))
        write_stack(picture, stacks.stack(StackShape(2, *TRANSPORT_SIZE)))
        modes = []
        parameters = {**asdict(config.compute), 'stamp_policy': 'last'}
        for mode in amount.modes:
            progress.set_description(f'depth node, {mode}')
            rate = camera_rate(report, mode, base.planes)
            modes.append(_measure_mode(folder, stack, mode, rate, parameters, amount))
            progress.update(1)
        progress.set_description('transport')
        transport = _measure_transport(folder, picture, amount, progress)
    return {'setting': asdict(base), 'modes': modes, 'transport': transport}


def camera_rate(report: Mapping[str, Any], mode: str, planes: int) -> float:
    """Return the images per second that the node can keep up with, by the measured times."""
    methods = {method['name']: method for method in report['methods']}
    default = methods.get(report['default_model'])
    if default is None:
        raise CommandError(
            "the node benchmark needs the default model among the methods: add 'auto'"
        )
    if mode == 'sliding':
        busy_ms = default['sliding']['total_ms']['p50']
    else:
        busy_ms = base_cell(default, report)['total_ms']['p50'] / planes
    return float(min(1e3 / (SLACK * busy_ms), FASTEST_CAMERA))


def _measure_mode(
    folder: Path,
    stack: Path,
    mode: str,
    rate: float,
    parameters: Mapping[str, Any],
    amount: NodeBenchmarkConfig,
) -> dict[str, Any]:
    """Run camera, node and receiver until enough depth images have arrived."""
    sent, received = folder / f'{mode}.sent', folder / f'{mode}.received'
    words = []
    for key, value in {**parameters, 'stack.mode': mode}.items():
        words += ['-p', f'{key}:={value}']
    nodes = {
        RECEIVER: [DEPTH_TOPIC, 'reliable', str(received)],
        'depth_node': words,
        PLAYER: [str(stack), repr(rate), str(sent)],
    }
    required = amount.depths + WARMUP_MESSAGES
    with _running(nodes, folder / mode, True) as check:
        # Ten times the expected duration, for busy machines.
        deadline = time.monotonic() + START_SECONDS + 10.0 * required * 32 / rate
        while len(_entries(received, 'arrival')) < required:
            check(deadline, mode)
    depths = _entries(received, 'arrival')[WARMUP_MESSAGES:]
    infos = _entries(received, 'info')[WARMUP_MESSAGES:]
    # Statistics of the newest callbacks; the last message covers nearly all.
    callbacks = _entries(received, 'callbacks')
    seconds = (depths[-1]['receipt_ns'] - depths[0]['receipt_ns']) * 1e-9
    return {
        'mode': mode,
        'camera_hz': rate,
        'frames_sent': len(_lines(sent)),
        'depths': len(depths),
        'depth_hz': (len(depths) - 1) / seconds if seconds > 0.0 else None,
        'latency_ms': _percentiles([_delay_ms(entry) for entry in depths]),
        **{
            name: _percentiles([info[name] for info in infos])
            for name in ('assemble_ms', 'inference_ms', 'publish_ms')
        },
        'callbacks': callbacks[-1] if callbacks else None,
        **{key: infos[-1][key] if infos else None for key in ('model', 'device')},
    }


def _measure_transport(
    folder: Path, picture: Path, amount: NodeBenchmarkConfig, progress: Progress
) -> dict[str, Any]:
    """Return delay and loss of images between two processes, with both profiles."""
    import rclpy

    found: dict[str, Any] = {
        'width': TRANSPORT_SIZE[0],
        'height': TRANSPORT_SIZE[1],
        'rate': TRANSPORT_RATE,
        'rmw': rclpy.get_rmw_implementation_identifier(),
        'compared': [],
        'why_not': None,
    }
    if 'fastrtps' not in found['rmw'] or find_config(PROFILE) is None:
        found['why_not'] = f'the profile is for Fast DDS, the middleware is {found["rmw"]}'
        return found
    for reliability in amount.subscribers:
        delays: dict[bool, list[float]] = {False: [], True: []}
        counts = {False: 0, True: 0}
        # Interleaved, so that a disturbance affects both profiles.
        for turn in range(amount.rounds):
            for with_profile in (False, True):
                logs = folder / f'{reliability}-{turn}-{with_profile}'
                sent, received = _play_images(
                    logs, picture, reliability, with_profile, amount.images
                )
                counts[with_profile] += sent
                delays[with_profile] += received
                progress.update(1)
        found['compared'].append(compare_transports(reliability, delays, counts))
    return found


def compare_transports(
    reliability: str, delays: Mapping[bool, Sequence[float]], sent: Mapping[bool, int]
) -> dict[str, Any]:
    """Return delay and loss with the default profile (key False) and the package's (key True)."""
    sides: dict[str, dict[str, Any]] = {}
    for with_profile, name in ((False, 'default'), (True, 'ours')):
        count, received = sent[with_profile], len(delays[with_profile])
        sides[name] = {
            'sent': count,
            'received': received,
            'loss': max(1.0 - received / count, 0.0) if count else None,
            'delay_ms': _percentiles(delays[with_profile]),
        }
    slow, fast = sides['default']['delay_ms'], sides['ours']['delay_ms']
    # The median of few received images would favour the lossy profile.
    mostly_received = all(side['sent'] and side['loss'] < 0.1 for side in sides.values())
    speed_up = slow['p50'] / fast['p50'] if mostly_received and slow and fast else None
    return {'reliability': reliability, **sides, 'speed_up': speed_up}


def _play_images(
    logs: Path, picture: Path, reliability: str, with_profile: bool, images: int
) -> tuple[int, list[float]]:
    """Play images to a receiver; return the number sent and the delays in ms."""
    sent, received = logs / 'sent', logs / 'received'
    nodes = {
        RECEIVER: [IMAGE_TOPIC, reliability, str(received)],
        PLAYER: [str(picture), repr(TRANSPORT_RATE), str(sent)],
    }
    with _running(nodes, logs, with_profile) as check:
        deadline = time.monotonic() + START_SECONDS + 10.0 * images / TRANSPORT_RATE
        while len(_lines(sent)) < images + WARMUP_MESSAGES:
            check(deadline, 'transport')
        # The last images may still be in transit; later ones do not count.
        stamps = set(_lines(sent)[WARMUP_MESSAGES : images + WARMUP_MESSAGES])
        time.sleep(0.3)
    arrived = [e for e in _entries(received, 'arrival') if e['stamp_ns'] in stamps]
    return len(stamps), [_delay_ms(entry) for entry in arrived]


@contextmanager
def _running(
    nodes: Mapping[str, Sequence[str]], logs: Path, with_profile: bool
) -> Iterator[Callable[[float, str], None]]:
    """Run nodes; yield a function that waits and checks that all run before a deadline."""
    logs.mkdir()
    environment: dict[str, str | None] = {**isolated_environment()}
    if not with_profile:
        environment |= dict.fromkeys(PROFILE_VARIABLES)
    with NodeGroup() as processes:
        for name, words in nodes.items():
            processes.start(name, words, logs, environment)

        def check(deadline: float, task: str) -> None:
            exited = processes.exited()
            if exited:
                raise CommandError(
                    f'{exited[0].name} ended with status {exited[0].status} ({task}); last '
                    f'output: {exited[0].last_line()}'
                )
            if time.monotonic() > deadline:
                output = '; '.join(f'{node.name}: {node.last_line()}' for node in processes.nodes)
                raise CommandError(f'no messages arrived in time ({task}); last output: {output}')
            time.sleep(0.05)

        yield check
    if processes.problems:
        raise CommandError('; '.join(processes.problems))


def _lines(log: Path) -> list[Any]:
    """Return the complete lines of a log of JSON values."""
    text = log.read_text() if log.is_file() else ''
    return [json.loads(line) for line in text[: text.rfind('\n') + 1].splitlines()]


def _entries(log: Path, kind: str) -> list[dict[str, Any]]:
    return [line[kind] for line in _lines(log) if kind in line]


def _delay_ms(entry: Mapping[str, int]) -> float:
    return (entry['receipt_ns'] - entry['stamp_ns']) * 1e-6


def _percentiles(values: Sequence[float]) -> dict[str, Any] | None:
    return percentiles(values) if values else None
