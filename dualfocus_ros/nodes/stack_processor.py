# SPDX-License-Identifier: Apache-2.0
"""Work on the worker's thread: load the estimator; estimate, publish and count stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dualfocus_ros.exceptions import one_line
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.nodes.monitoring.node_statistics import OutputStatistics, StackQuality
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.publishers import OutputPublishers, StackJob, requested_outputs
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

if TYPE_CHECKING:
    from dualfocus_ros.inference.estimator import DepthEstimator


# Reason of the rejection and remedy by fault of the device.
_FAULTS = {
    GpuFault.OUT_OF_MEMORY: (
        'out_of_memory',
        (
            'the stack needs more memory than is free, even with empty caches: use fewer planes '
            '(stack.size), depth.decimation 2 or precision fp16, or free memory of the device'
        ),
    ),
    GpuFault.LOST: ('gpu_lost', 'CUDA cannot be used any more in this process'),
}


def load_estimator(settings: DepthNodeSettings) -> DepthEstimator:
    """Load the network and run it once. Imports torch, which takes seconds."""
    from dualfocus_ros.inference.estimator import DepthEstimator

    estimator = DepthEstimator(
        settings.model,
        settings.device,
        settings.precision,
        settings.threads,
        estimator_settings(settings),
        settings.cuda_graphs,
    )
    # The first run sets up libraries and, on a GPU, compiles; the image size is not known yet.
    estimator.warm_up(planes=2, height=96, width=128)
    return estimator


@dataclass(eq=False)
class EstimatorLoader:
    """Loads the estimator of one configuration of the node; used on the worker's thread.

    :param make: makes the estimator from the parameters.
    :param fallback: reason for running on the CPU instead of the GPU.
    :param gpu_loss: reason why the GPU is lost and no fallback is allowed.
    """

    make: Callable[[DepthNodeSettings], DepthEstimator]
    settings: DepthNodeSettings
    logger: Any
    estimator: DepthEstimator | None = None
    fallback: str | None = None
    gpu_loss: str | None = None

    def load(self) -> DepthEstimator:
        """Load for the requested device; for the CPU where ``auto`` found a GPU that fails."""
        self.estimator = None
        self.estimator = self._load_with_fallback()
        return self.estimator

    def should_reload(self, error: BaseException) -> bool:
        """Return whether ``load`` can replace an estimator that failed with this error."""
        if classify_gpu_error(error) is not GpuFault.LOST or self.gpu_loss is not None:
            return False
        if self.settings.device == 'auto' and self.fallback is None:
            self._fall_back_to_cpu(error)
            return True
        self.gpu_loss = (
            f'the GPU cannot be used any more in this process: {describe_error(error)}; restart '
            'the process, or set device to auto to continue on the CPU'
        )
        return False

    def _load_with_fallback(self) -> DepthEstimator:
        settings = self.settings
        if self.fallback is None:
            try:
                return self.make(settings)
            except RuntimeError as error:
                if settings.device != 'auto' or classify_gpu_error(error) is None:
                    raise
                self._fall_back_to_cpu(error)
        precision = 'auto' if settings.precision == 'fp16' else settings.precision
        return self.make(replace(settings, device='cpu', precision=precision))

    def _fall_back_to_cpu(self, error: BaseException) -> None:
        self.fallback = (
            f'on the CPU, because the GPU cannot be used: {describe_error(error)}; restart this '
            'process to use the GPU again'
        )
        self.logger.error(self.fallback)


@dataclass(eq=False)
class StackProcessor:
    """Estimates and publishes the stacks, and updates counts and statistics."""

    outputs: OutputPublishers
    stage_counter: StageCounter
    statistics: OutputStatistics
    epoch: Callable[[], int]

    def process(self, estimator: DepthEstimator, job: StackJob) -> None:
        """Estimate and publish; do nothing without subscribers or if the job is outdated."""
        if self._is_outdated(job, Stage.INFERRED):
            return
        topics = self.outputs.due_topics(job.settings, job.stack)
        if not topics:
            return
        began = time.monotonic()
        estimator.settings = estimator_settings(job.settings)
        result = self._estimate(estimator, job.stack, requested_outputs(topics))
        inferred = time.monotonic()
        self.stage_counter.count(Stage.INFERRED)
        if self._is_outdated(job, Stage.PUBLISHED):
            return
        latency_ms = self.outputs.publish(
            topics, job, result, began, inferred, (estimator.model_name, estimator.device_name)
        )
        self.stage_counter.count(Stage.PUBLISHED)
        stages = {
            'assemble': (began - job.arrived) * 1e3,
            **result.stage_ms,
            'publish': (time.monotonic() - inferred) * 1e3,
        }
        self.statistics.record(latency_ms, stages, stack_quality(result, job.settings))

    def report(self, error: BaseException) -> None:
        """Count a failed stack, with the error and its remedy."""
        reason, advice = 'inference_failed', ''
        fault = classify_gpu_error(error)
        if fault is not None:
            reason, advice = _FAULTS[fault]
        elif not isinstance(error, Exception):
            reason, advice = 'worker_crashed', 'restarting the worker thread'
        text = f'{describe_error(error)}; {advice}' if advice else describe_error(error)
        self.stage_counter.reject(Stage.INFERRED, reason, text)
        self.statistics.fail(text)

    def _estimate(
        self, estimator: DepthEstimator, stack: FocalStack, outputs: OutputRequest
    ) -> DepthResult:
        """Estimate; after an out-of-memory error, once more with empty caches."""
        try:
            return estimator.estimate(stack, outputs)
        except RuntimeError as error:
            if classify_gpu_error(error) is not GpuFault.OUT_OF_MEMORY:
                raise
        # Outside the except block: the frames of the exception hold intermediate tensors.
        estimator.clear_caches()
        self.statistics.out_of_memory_count += 1
        return estimator.estimate(stack, outputs)

    def _is_outdated(self, job: StackJob, stage: Stage) -> bool:
        if job.epoch == self.epoch():
            return False
        self.stage_counter.reject(
            stage, 'reset', 'the node was reset before the stack was published'
        )
        return True


def stack_quality(result: DepthResult, settings: DepthNodeSettings) -> StackQuality:
    alignment, gains = result.alignment, result.gains
    return StackQuality(
        # A sixteenth of the pixels is enough for the share.
        valid_share=float(np.isfinite(result.depth[::4, ::4]).mean()),
        has_points=result.camera is not None,
        motion_px=None if alignment is None else alignment.max_displacement_px,
        max_motion_px=settings.alignment_max_motion,
        unaligned=() if alignment is None else alignment.failed,
        brightness_ratio=1.0 if gains is None else float(gains.max() / gains.min()),
        clipped=result.saturated,
    )


def describe_error(error: BaseException) -> str:
    """Return an error in one line: the text of a ValueError, else class and text."""
    name, text = type(error).__name__, one_line(error)
    return text if isinstance(error, ValueError) or text == name else f'{name}: {text}'
