# SPDX-License-Identifier: Apache-2.0
"""What the worker's thread does with one stack: estimate, then publish what is listened to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Protocol

import numpy as np

from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.diagnostics import OutputStatistics, StackQuality
from dualfocus_ros.nodes.outputs import OutputPublishers, StackTimings, requested_outputs
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter


class Estimator(Protocol):
    """What the node needs of ``pipeline.estimator.DepthEstimator``."""

    settings: EstimatorSettings
    model_name: str
    sha256: str

    @property
    def device_name(self) -> str:
        """The device, in words."""

    @property
    def device_memory(self) -> int:
        """Bytes of device memory in use."""

    def estimate(self, stack: FocalStack, outputs: OutputRequest = ...) -> DepthResult:
        """Estimate depth and whatever else is asked for."""

    def prefetch(self, plane: Plane) -> bool:
        """Work on a plane before its stack is complete."""

    def clear_caches(self) -> None:
        """Give back what memory is not needed for the next stack."""

    def release(self) -> None:
        """Give the memory back."""


# By the fault of the device: the reason under which the stack is counted, and what to do.
_FAULTS = {
    GpuFault.OUT_OF_MEMORY: (
        'out_of_memory',
        (
            'the stack needs more memory than is free, even with nothing else kept: fewer planes '
            '(stack.size), depth.decimation 2, precision fp16, or end what else uses the device'
        ),
    ),
    GpuFault.LOST: ('gpu_lost', 'CUDA cannot be used any more in this process'),
}


def load_estimator(settings: DepthNodeSettings) -> Estimator:
    """Load the network and run it once. Imports torch, which takes seconds."""
    from dualfocus_ros.inference.estimator import DepthEstimator

    estimator = DepthEstimator(
        settings.model,
        settings.device,
        settings.precision,
        settings.threads,
        settings.pipeline(),
        settings.cuda_graphs,
    )
    # The first run sets up libraries and, on a GPU, compiles; the image size is not known yet.
    estimator.warm_up(planes=2, height=96, width=128)
    return estimator


@dataclass(frozen=True, eq=False)
class StackJob:
    """A stack on its way to the network.

    :param settings: the parameters when the stack was complete.
    :param epoch: the node's epoch then; a reset begins a new one.
    :param arrived: when the message that completed the stack came, by the steady clock.
    """

    stack: FocalStack
    settings: DepthNodeSettings
    epoch: int
    arrived: float


class StackProcessor:
    """Turns jobs into published messages and keeps the counts."""

    def __init__(
        self,
        outputs: OutputPublishers,
        stage_counter: StageCounter,
        statistics: OutputStatistics,
        epoch: Callable[[], int],
    ) -> None:
        self._outputs = outputs
        self._stage_counter = stage_counter
        self._statistics = statistics
        self._epoch = epoch

    def process(self, estimator: Estimator, job: StackJob) -> None:
        """Estimate and publish; nothing where nobody listens or the job is out of date."""
        if self._out_of_date(job, Stage.INFERRED):
            return
        stack, settings = job.stack, job.settings
        topics = self._outputs.due_topics(settings, stack)
        if not topics:
            return
        began = time.monotonic()
        estimator.settings = settings.pipeline()
        result = self._estimate(estimator, stack, requested_outputs(topics))
        inferred = time.monotonic()
        self._stage_counter.count(Stage.INFERRED)
        if self._out_of_date(job, Stage.PUBLISHED):
            return
        latency_ms = self._outputs.publish(
            topics,
            stack,
            result,
            settings,
            StackTimings(job.arrived, began, inferred),
            (estimator.model_name, estimator.device_name),
        )
        self._stage_counter.count(Stage.PUBLISHED)
        stages = {
            'assemble': (began - job.arrived) * 1e3,
            **result.stage_ms,
            'publish': (time.monotonic() - inferred) * 1e3,
        }
        self._statistics.note(latency_ms, stages, stack_quality(result, settings))

    def foresee(self, estimator: Estimator, plane: Plane) -> None:
        """Work on a plane whose stack is not complete yet."""
        estimator.prefetch(plane)

    def report(self, error: BaseException) -> None:
        """Count a stack that failed, with what is to be done about it."""
        reason, advice = 'inference_failed', ''
        fault = classify_gpu_error(error)
        if fault is not None:
            reason, advice = _FAULTS[fault]
        elif not isinstance(error, Exception):
            reason, advice = 'worker_died', 'the worker thread is started anew'
        text = f'{describe_error(error)}; {advice}' if advice else describe_error(error)
        self._stage_counter.reject(Stage.INFERRED, reason, text)
        self._statistics.fail(text)

    def _estimate(
        self, estimator: Estimator, stack: FocalStack, outputs: OutputRequest
    ) -> DepthResult:
        """Estimate; where memory runs out, once more with nothing but this stack in it."""
        try:
            return estimator.estimate(stack, outputs)
        except RuntimeError as error:
            if classify_gpu_error(error) is not GpuFault.OUT_OF_MEMORY:
                raise
        # Only here, where the exception is gone: its frames hold what was computed so far.
        estimator.clear_caches()
        self._statistics.out_of_memory_count += 1
        return estimator.estimate(stack, outputs)

    def _out_of_date(self, job: StackJob, stage: Stage) -> bool:
        if job.epoch == self._epoch():
            return False
        self._stage_counter.reject(
            stage, 'reset', 'the node was reset while the stack was on its way'
        )
        return True


def stack_quality(result: DepthResult, settings: DepthNodeSettings) -> StackQuality:
    """Return what is to be said of a stack."""
    alignment, gains = result.alignment, result.gains
    return StackQuality(
        # A sixteenth of the pixels tells as much.
        valid_share=float(np.isfinite(result.depth[::4, ::4]).mean()),
        has_points=result.camera is not None,
        motion_px=None if alignment is None else alignment.max_displacement_px,
        max_motion_px=settings.alignment_max_motion,
        unaligned=() if alignment is None else alignment.failed,
        brightness_ratio=1.0 if gains is None else float(gains.max() / gains.min()),
        clipped=result.saturated,
    )


def describe_error(error: BaseException) -> str:
    """Return an error in one line: the text of ours, the class too of others'."""
    text = ' '.join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
