# SPDX-License-Identifier: Apache-2.0
"""Contestants of the benchmark: methods of the evaluation registry, with their timing.

DualFocus networks run through the estimator, as in the depth node. Every other method is timed by
its :meth:`~dualfocus_ros.evaluation.method_interface.Method.run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from importlib.util import find_spec
import itertools
from pathlib import Path
import tempfile
import time

import cv2
import numpy as np
import torch

from dualfocus_ros.benchmark.benchmark_stacks import FRAME
from dualfocus_ros.benchmark.timing import TimedTask, TimingSample
from dualfocus_ros.evaluation.method_interface import PRECISION_NAMES, Method
from dualfocus_ros.evaluation.methods import METHODS, MethodOptions, find_entry
from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.device import default_threads, resolve_device, resolve_precision
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model, save_model, shipped_models

ALL_OUTPUTS = OutputRequest(
    sigma=True, confidence=True, all_in_focus=True, points=True, points_decimated=True
)


@dataclass(frozen=True)
class ComputeConfig:
    """Device, precision and threads.

    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
    :param threads: of a CPU; 0 for all processors but one.
    :raises ConfigError: for a negative number of threads.
    """

    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f'threads must not be negative, got {self.threads}')

    @property
    def torch_device(self) -> torch.device:
        """Device; DeviceError if it is unavailable."""
        return resolve_device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of DualFocus networks; DeviceError if the device lacks it."""
        return resolve_precision(self.precision, self.torch_device)

    @property
    def baseline_dtype(self) -> torch.dtype:
        """Number format of other networks: as published (fp32) for ``auto`` on a CPU."""
        if self.torch_device.type == 'cpu' and self.precision == 'auto':
            return torch.float32
        return self.dtype

    def set_threads(self) -> None:
        """Set the number of threads of PyTorch and OpenCV."""
        threads = self.threads or default_threads()
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)


def method_names() -> list[str]:
    """Return the default methods: shipped models, other configurations, baselines."""
    baselines = [name for name, entry in METHODS.items() if entry.benchmarked]
    return [*shipped_models(), *unshipped_configurations(), *baselines]


def unshipped_configurations() -> list[str]:
    """Return the configurations without a shipped model; they get random weights."""
    shipped = shipped_models()
    trained = [load_model(name).network.config for name in shipped]
    return [
        n for n, config in CONFIGURATIONS.items() if n not in shipped and config not in trained
    ]


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
        self.precision = PRECISION_NAMES[compute.dtype]
        self.weights = 'random' if model in unshipped_configurations() else 'shipped'
        with _weights_file(model, self.weights) as file:
            self.estimator = DepthEstimator(file, *astuple(compute))
            self.name = self.estimator.model_name
            network = load_model(self.name if self.name in shipped_models() else file).network
        self.parameters = sum(p.numel() for p in network.parameters())
        self._device = compute.torch_device

    def run(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack of new images."""
        return self._timed(stack, ())

    def last_plane(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack whose planes were encoded on arrival; time the last plane only."""
        for plane in stack.planes[:-1]:
            self.estimator.prefetch(plane)
        return self._timed(stack, ())

    def next_frame(self, stack: FocalStack) -> TimingSample:
        """Encode the last, newest plane of a stack and estimate; the others are encoded."""
        return self._timed(stack, stack.planes[-1:])

    def _timed(self, stack: FocalStack, arriving: Sequence[Plane]) -> TimingSample:
        # Planes prefetched on a GPU may still be in progress.
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        for plane in arriving:
            self.estimator.prefetch(plane)
        prefetched = time.perf_counter()
        result = self.estimator.estimate(stack, ALL_OUTPUTS)
        total_ms = (time.perf_counter() - start) * 1e3
        stages = dict(result.stage_ms)
        if arriving:
            stages['encode'] = stages.get('encode', 0.0) + (prefetched - start) * 1e3
        return TimingSample(total_ms, stages | _message_ms(stack, result))


BenchmarkMethod = TimedMethod | TimedDualFocus


def open_timed_method(name: str, compute: ComputeConfig) -> BenchmarkMethod:
    """Open a registered method, a model, a configuration, ``auto`` or a ``.safetensors`` file.

    :raises ValueError: for an unknown name or unusable weights.
    """
    found = find_entry(name)
    if found is None:
        return TimedDualFocus(name, compute)
    entry, argument = found
    dtype = compute.baseline_dtype
    options = MethodOptions(compute.torch_device, dtype=dtype, random_weights=True)
    return TimedMethod(entry.open(argument, options))


def sliding_window_task(
    name: str, compute: ComputeConfig, new_stack: Callable[[], FocalStack]
) -> TimedTask:
    """Return a task that replaces one plane of the stack by the next frame and estimates depth.

    It has its own estimator: a whole stack in between would end the stream.

    :param name: of a DualFocus network, as for :func:`open_timed_method`.
    :param new_stack: returns a stack of new images.
    """
    network = TimedDualFocus(name, compute)
    window = deque(new_stack().planes)
    frames = (
        replace(plane, stamp_ns=plane.stamp_ns + sweep * 10**10)
        for sweep in itertools.count(1)
        for plane in new_stack().planes
    )

    def next_frame() -> TimingSample:
        window.popleft()
        window.append(next(frames))
        return network.next_frame(FocalStack(tuple(window), FRAME))

    # The estimator detects a stream after two stacks with shared planes.
    next_frame()
    next_frame()
    return next_frame


@contextmanager
def _weights_file(model: str, weights: str) -> Iterator[str]:
    """Yield the model name or path for the estimator; random weights for a configuration."""
    if weights != 'random':
        yield model
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        path = Path(folder) / f'{model}.safetensors'
        save_model(path, DualFocus(CONFIGURATIONS[model]).eval())
        yield str(path)


def _message_ms(stack: FocalStack, result: DepthResult) -> dict[str, float]:
    """Return the milliseconds to build (``pack``) and ``serialise`` messages; none without ROS."""
    if find_spec('rclpy') is None or find_spec('sensor_msgs') is None:
        return {}
    from rclpy.serialization import serialize_message
    from std_msgs.msg import Header

    from dualfocus_ros.nodes.messages import output_messages
    from dualfocus_ros.stamps import to_stamp

    start = time.perf_counter()
    stamp = output_messages.output_stamp(stack, 'reference')
    header = Header(stamp=to_stamp(stamp), frame_id=stack.frame_id)
    messages = [output_messages.depth_message(header, result.depth, '32FC1')]
    for name, encoding in ('sigma', '32FC1'), ('confidence', 'mono8'), ('all_in_focus', 'rgb8'):
        values = getattr(result, name)
        if values is not None:
            messages.append(output_messages.image_message(header, values, encoding))
    for points in (result.points, result.points_decimated):
        if points is not None:
            messages.append(output_messages.cloud_message(header, points, True))
    if result.camera is not None:
        messages.append(output_messages.camera_message(header, result.camera))
    packed = time.perf_counter()
    for message in messages:
        serialize_message(message)
    end = time.perf_counter()
    return {'pack': (packed - start) * 1e3, 'serialise': (end - packed) * 1e3}
