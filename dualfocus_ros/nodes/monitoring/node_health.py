# SPDX-License-Identifier: Apache-2.0
"""State of the parts of the depth node, collected for its diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field
import time
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.nodes.estimator_loader import EstimatorLoader
from dualfocus_ros.nodes.inference_worker import InferenceWorker
from dualfocus_ros.nodes.inputs.stack_source import StackSource
from dualfocus_ros.nodes.monitoring.callback_times import CallbackSummary, CallbackTimer
from dualfocus_ros.nodes.monitoring.transport_monitor import TransportHealth
from dualfocus_ros.nodes.outputs import OutputPublishers
from dualfocus_ros.nodes.qos import incompatible_endpoints
from dualfocus_ros.nodes.stack_processor import describe_error
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.stage_counter import StageCounter, StageCounts


@dataclass(frozen=True)
class InputHealth:
    """State of the input images.

    :param topics: the image topics, for the text.
    :param publishers: number of publishers on these topics.
    :param age: seconds since the last image; None before the first.
    :param waiting: seconds since the node was activated.
    :param period: median seconds between images; None if unknown.
    :param has_subscribers: whether an output topic has a subscriber.
    :param lens: newest lens reading; None before the first.
    :param sweep_seconds: time from the first to the last plane of the last stack.
    :param callbacks: durations of the callbacks; None before the first.
    """

    stage_counter: StageCounts
    topics: str
    publishers: int
    age: float | None
    waiting: float
    period: float | None
    progress: SweepProgress | None
    in_progress: bool
    has_subscribers: bool
    active: bool
    calibration_error: str | None = None
    lens: LensReading | None = None
    sweep_seconds: float | None = None
    callbacks: CallbackSummary | None = None


@dataclass(frozen=True)
class ModelHealth:
    """State of the network.

    :param failure: reason why the node cannot be configured or continue.
    :param fallback: reason for running on the CPU instead of the GPU.
    :param restarts: number of restarts of the worker thread after a crash.
    :param crash_cause: error of the last crash.
    """

    lifecycle: str
    worker: str
    name: str = ''
    sha256: str = ''
    device: str = ''
    device_memory: int = 0
    host_memory: int = 0
    failure: str | None = None
    fallback: str | None = None
    restarts: int = 0
    crash_cause: str = ''


@dataclass(frozen=True)
class ClockHealth:
    """State of the clock.

    :param simulated: whether the time comes from /clock.
    :param silent: whether simulated time stands still.
    """

    simulated: bool
    silent: bool
    jumps: int = 0
    last_jump: str = ''


@dataclass(frozen=True)
class ConnectionHealth:
    """Topics, quality of service and transport.

    :param problems: descriptions of incompatible endpoints.
    :param transport: losses and delays of images; None if unknown.
    """

    inputs: list[str]
    outputs: list[str]
    problems: list[str] = field(default_factory=list)
    transport: TransportHealth | None = None


def input_health(
    source: StackSource | None,
    stage_counter: StageCounter,
    times: CallbackTimer,
    active_since: float | None,
) -> InputHealth:
    """Return the state of the input.

    :param active_since: time of the activation by the steady clock; None while inactive.
    """
    images = [] if source is None else source.images
    return InputHealth(
        stage_counter=stage_counter.snapshot(),
        topics=', '.join(subscription.topic for subscription in images),
        publishers=sum(subscription.publishers for subscription in images),
        age=None if source is None else source.arrivals.age,
        waiting=0.0 if active_since is None else time.monotonic() - active_since,
        period=None if source is None else source.arrivals.period,
        progress=None if source is None else source.progress,
        in_progress=source is not None and source.in_progress,
        has_subscribers=source is not None and source.enabled,
        active=active_since is not None,
        calibration_error=None if source is None else source.calibration_error,
        lens=None if source is None else source.lens,
        sweep_seconds=None if source is None else source.sweep_seconds,
        callbacks=times.summary(),
    )


def model_health(
    lifecycle: str,
    failure: str | None,
    worker: InferenceWorker[Any] | None,
    loader: EstimatorLoader | None,
) -> ModelHealth:
    """Return the state of the network; ``lifecycle`` is the label of the node's state."""
    estimator = None if loader is None else loader.estimator
    return ModelHealth(
        lifecycle=lifecycle,
        worker='not loaded' if worker is None else worker.state.value,
        name='' if estimator is None else estimator.model_name,
        sha256='' if estimator is None else estimator.sha256,
        device='' if estimator is None else estimator.device_name,
        device_memory=0 if estimator is None else estimator.device_memory,
        host_memory=resident_memory(),
        failure=failure,
        fallback=None if loader is None else loader.fallback,
        restarts=0 if worker is None else worker.restarts,
        crash_cause='' if worker is None else describe_crash(worker),
    )


def connection_health(
    node: Node,
    source: StackSource | None,
    outputs: OutputPublishers | None,
    diagnostics: Publisher,
) -> ConnectionHealth:
    """Return the connections of the inputs, the outputs and the publisher of the diagnostics."""
    inputs = [] if source is None else source.subscriptions
    problems = [s.incompatible for s in inputs if s.incompatible is not None]
    problems += incompatible_endpoints(node, diagnostics)
    published: list[str] = []
    if outputs is not None:
        problems += outputs.incompatible_endpoints()
        published = outputs.descriptions()
    texts = [f'{s}, publishers: {s.publishers}' for s in inputs]
    transport = None if source is None else source.transport.summary
    return ConnectionHealth(texts, published, problems, transport)


def describe_crash(worker: InferenceWorker[Any]) -> str:
    """Return the error of the worker's last crash in one line; empty if it never crashed."""
    return '' if worker.crash_cause is None else describe_error(worker.crash_cause)


def resident_memory() -> int:
    """Return the resident memory of this process in bytes; 0 if unknown."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()
