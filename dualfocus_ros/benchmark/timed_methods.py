# SPDX-License-Identifier: Apache-2.0
"""Timing of the methods of the evaluation registry.

DualFocus networks run through the estimator, as in the depth node. Every other method is timed by
its :meth:`~dualfocus_ros.evaluation.method_interface.Method.run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
import itertools
from pathlib import Path
import tempfile
import time
from typing import Protocol

import numpy as np
import torch

from dualfocus_ros.benchmark.benchmark_stacks import FRAME
from dualfocus_ros.benchmark.compute_config import ComputeConfig
from dualfocus_ros.benchmark.message_cost import MessageTimer
from dualfocus_ros.benchmark.timing import TimingSample
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.methods import METHODS, MethodOptions, find_entry
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model, save_model, shipped_models

ALL_OUTPUTS = OutputRequest(
    sigma=True, confidence=True, all_in_focus=True, points=True, points_decimated=True
)


class BenchmarkMethod(Protocol):
    """Method that can be timed; the fields are those of the registry's methods."""

    name: str
    weights: str
    about: str
    precision: str
    parameters: int

    def run(self, stack: FocalStack) -> TimingSample:
        """Compute the depth of a stack once."""


def method_names() -> list[str]:
    """Return the default methods: shipped models, other configurations, baselines."""
    baselines = [name for name, entry in METHODS.items() if entry.benchmarked]
    return [*shipped_models(), *unshipped_configurations(), *baselines]


def unshipped_configurations() -> list[str]:
    """Return the configurations without a shipped model; they get random weights."""
    shipped = shipped_models()
    trained = [load_model(name).network.config for name in shipped]
    return [
        name
        for name, config in CONFIGURATIONS.items()
        if name not in shipped and config not in trained
    ]


def open_timed_method(name: str, compute: ComputeConfig) -> BenchmarkMethod:
    """Open a registered method, a model, a configuration, ``auto`` or a ``.safetensors`` file.

    :raises ValueError: for an unknown name or unusable weights.
    """
    found = find_entry(name)
    if found is None:
        return TimedDualFocus(name, compute)
    entry, argument = found
    options = MethodOptions(
        compute.torch_device, dtype=compute.baseline_dtype, random_weights=True
    )
    return TimedMethod(entry.open(argument, options))


class TimedMethod:
    """Method of the evaluation registry, timed as a whole."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self.name = method.name
        self.weights = method.weights
        self.about = method.about
        self.precision = method.precision
        self.parameters = method.parameters

    def run(self, stack: FocalStack) -> TimingSample:
        """Compute the depth of a stack once."""
        images = np.stack([plane.image for plane in stack.planes])
        start = time.perf_counter()
        stages = self._method.run(images, stack.focus_dioptres)
        return TimingSample((time.perf_counter() - start) * 1e3, stages)


class TimedDualFocus:
    """DualFocus network in the estimator, with all outputs that the depth node can publish.

    :param model: shipped model, ``auto``, path of a ``.safetensors`` file, or a configuration,
        which gets random weights; run time does not depend on weights.
    """

    about = 'whole estimate: depth, sigma, confidence, colour and points'

    def __init__(self, model: str, compute: ComputeConfig) -> None:
        self.precision = compute.format
        self.weights = 'random' if model in unshipped_configurations() else 'shipped'
        with _weights_file(model) as file:
            self.estimator = DepthEstimator(
                file, compute.device, compute.precision, compute.threads
            )
            self.name = self.estimator.model_name
            network = load_model(self.name if self.name in shipped_models() else file).network
        self.parameters = sum(p.numel() for p in network.parameters())
        self._message_timer = MessageTimer()
        self._device = compute.torch_device

    def run(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack of new images."""
        return self._timed(stack, lambda: None)

    def last_plane(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack whose planes, except for the last, were encoded on arrival.

        Only the work after the arrival of the last plane is timed.
        """
        for plane in stack.planes[:-1]:
            self.estimator.prefetch(plane)
        return self._timed(stack, lambda: None)

    def next_frame(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack that differs from the previous one in its newest plane.

        The time includes encoding that plane.

        :param stack: with the newest plane last.
        """
        return self._timed(stack, lambda: self.estimator.prefetch(stack.planes[-1]))

    def _timed(self, stack: FocalStack, before: Callable[[], object]) -> TimingSample:
        # Planes prefetched on a GPU may still be in progress.
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        before()
        prefetched = time.perf_counter()
        result = self.estimator.estimate(stack, ALL_OUTPUTS)
        total_ms = (time.perf_counter() - start) * 1e3
        stages = dict(result.stage_ms)
        if prefetched - start > 1e-5:
            stages['encode'] = stages.get('encode', 0.0) + (prefetched - start) * 1e3
        return TimingSample(total_ms, {**stages, **self._message_timer.measure(stack, result)})


class SlidingWindowTask:
    """Stream of frames: each replaces one plane of the stack and yields a depth.

    :param new_stack: returns a stack of new images.
    """

    def __init__(self, method: TimedDualFocus, new_stack: Callable[[], FocalStack]) -> None:
        self._method = method
        first = new_stack()
        self._window = deque(first.planes, maxlen=len(first.planes))
        self._planes = self._frames(new_stack)
        # The estimator detects a stream after two stacks with shared planes.
        for _ in range(2):
            self()

    def __call__(self) -> TimingSample:
        """Estimate with the next frame."""
        self._window.append(next(self._planes))
        return self._method.next_frame(FocalStack(tuple(self._window), FRAME))

    @staticmethod
    def _frames(new_stack: Callable[[], FocalStack]) -> Iterator[Plane]:
        for sweep in itertools.count(1):
            for plane in new_stack().planes:
                yield replace(plane, stamp_ns=plane.stamp_ns + sweep * 10**10)


@contextmanager
def _weights_file(model: str) -> Iterator[str]:
    """Yield the model name or path for the estimator; random weights for a configuration."""
    if model not in unshipped_configurations():
        yield model
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        path = Path(folder) / f'{model}.safetensors'
        save_model(path, DualFocus(CONFIGURATIONS[model]).eval())
        yield str(path)
